"""List the tensors a client may send and receive: one table for config.pbtxt, the backend and the client.

Names follow the TensorRT-LLM backend's ensemble, so its clients work unchanged. Every input is optional, since a prompt
comes either as text or as token ids; batching happens inside the model, so no tensor has a batch dimension.
"""

from dataclasses import dataclass
from typing import Literal

Datatype = Literal["BYTES", "BOOL", "INT32", "UINT64", "FP32"]

ANY = -1
"""A dimension of any size, as config.pbtxt writes it."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """One named tensor: `datatype` as on the wire, `dims` as in config.pbtxt."""

    name: str
    datatype: Datatype
    dims: tuple[int, ...]
    meaning: str

    @property
    def config_type(self) -> str:
        """The `data_type` of config.pbtxt, where BYTES is spelled TYPE_STRING."""
        return "TYPE_STRING" if self.datatype == "BYTES" else f"TYPE_{self.datatype}"


INPUTS: tuple[Tensor, ...] = (
    Tensor("text_input", "BYTES", (1,), "the prompt, UTF-8; excludes input_ids"),
    Tensor("input_ids", "INT32", (ANY,), "the prompt as token ids; excludes text_input"),
    Tensor("max_tokens", "INT32", (1,), "tokens to generate at most; default 16"),
    Tensor("stream", "BOOL", (1,), "true: responses as tokens come; false, the default: exactly one response"),
    Tensor("temperature", "FP32", (1,), "0, the default, is greedy; higher is more random"),
    Tensor("top_k", "INT32", (1,), "sample among the k likeliest tokens; 0, the default, is all"),
    Tensor("top_p", "FP32", (1,), "sample among the likeliest tokens that hold this share; in (0, 1], default 1"),
    Tensor("seed", "UINT64", (1,), "the same seed, prompt and sampling give the same tokens; default 0"),
    Tensor("stop_words", "BYTES", (ANY,), "generation ends where one of these texts would begin; none is returned"),
    Tensor("ignore_eos", "BOOL", (1,), "go on after the model's end-of-text token; default false"),
    Tensor("exclude_input_in_output", "BOOL", (1,), "false puts the prompt before the answer's text; default true"),
)

OUTPUTS: tuple[Tensor, ...] = (
    Tensor("text_output", "BYTES", (1,), "text of the new tokens; whole UTF-8 characters only"),
    Tensor("output_ids", "INT32", (ANY,), "ids of the new tokens"),
    Tensor("finish_reason", "BYTES", (1,), "empty until the last response: then stop or length"),
    Tensor("prompt_tokens", "INT32", (1,), "tokens of the prompt"),
    Tensor("completion_tokens", "INT32", (1,), "tokens generated so far"),
)
