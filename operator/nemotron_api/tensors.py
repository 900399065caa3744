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


_INPUTS: tuple[Tensor, ...] = (
    Tensor("text_input", "BYTES", (1,), "the prompt, UTF-8; excludes input_ids"),
    Tensor("input_ids", "INT32", (ANY,), "the prompt as token ids; excludes text_input"),
    Tensor(
        "resume_ids", "INT32", (ANY,), "output_ids that came before the stream broke: the answer goes on after them"
    ),
    Tensor("max_tokens", "INT32", (1,), "tokens to generate at most, resumed ones included; default 16"),
    Tensor("min_tokens", "INT32", (1,), "tokens before anything may end the answer; default 0"),
    Tensor("stream", "BOOL", (1,), "true: responses as tokens come; false, the default: one response per answer"),
    Tensor("num_return_sequences", "INT32", (1,), "answers to give, each with the next seed; default 1"),
    Tensor("temperature", "FP32", (1,), "0, the default, is greedy; higher is more random"),
    Tensor("top_k", "INT32", (1,), "sample among the k likeliest tokens; 0, the default, is all"),
    Tensor("top_p", "FP32", (1,), "sample among the likeliest tokens that hold this share; in (0, 1], default 1"),
    Tensor("min_p", "FP32", (1,), "sample among tokens at least this times as likely as the likeliest; default 0"),
    Tensor("seed", "UINT64", (1,), "the same seed, prompt and sampling give the same tokens; default 0"),
    Tensor("repetition_penalty", "FP32", (1,), "above 1: tokens of prompt and answer get less likely; default 1"),
    Tensor("presence_penalty", "FP32", (1,), "taken from the logits of the answer's tokens; default 0"),
    Tensor("frequency_penalty", "FP32", (1,), "the same for each time they occur; default 0"),
    Tensor("logit_bias_ids", "INT32", (ANY,), "tokens whose logits are changed"),
    Tensor("logit_bias_values", "FP32", (ANY,), "what is added to each of them"),
    Tensor("embedding_bias_words", "BYTES", (ANY,), "texts whose tokens' logits are changed"),
    Tensor("embedding_bias_weights", "FP32", (ANY,), "what is added to each token of each of them"),
    Tensor("bad_words", "BYTES", (ANY,), "texts that are not generated, as the tokenizer spells them"),
    Tensor("stop_words", "BYTES", (ANY,), "generation ends where one of these texts would begin; none is returned"),
    Tensor("include_stop_str_in_output", "BOOL", (1,), "true: the stop word that ended it is returned; default false"),
    Tensor("end_id", "INT32", (ANY,), "tokens that end the answer beside the model's own; negative ones are none"),
    Tensor("ignore_eos", "BOOL", (1,), "go on after the model's end-of-text token; default false"),
    Tensor("reasoning_budget", "INT32", (1,), "tokens to think; -1, the default, is no limit"),
    Tensor(
        "guided_decoding_guide_type",
        "BYTES",
        (1,),
        "the answer's form, after its thoughts: json (any object), json_schema, regex, ebnf_grammar, choice",
    ),
    Tensor("guided_decoding_guide", "BYTES", (1,), "the schema, the expression, the grammar, or a JSON list of texts"),
    Tensor("return_log_probs", "BOOL", (1,), "true: output_log_probs and cum_log_probs are sent; default false"),
    Tensor(
        "top_n_log_probs", "INT32", (1,), "with return_log_probs: likeliest tokens to tell at each place; default 0"
    ),
    Tensor("return_prompt_log_probs", "BOOL", (1,), "true: prompt_log_probs are sent once; default false"),
    Tensor("top_n_prompt_log_probs", "INT32", (1,), "with it: likeliest tokens to tell at each place; default 0"),
    Tensor("exclude_input_in_output", "BOOL", (1,), "false puts the prompt before the answer's text; default true"),
    Tensor("beam_width", "INT32", (1,), "1: there is no beam search"),
    Tensor("length_penalty", "FP32", (1,), "of no effect, as with a beam_width of 1 it has none"),
    Tensor("pad_id", "INT32", (1,), "of no effect: nothing is padded"),
)

ALIASES: dict[str, str] = {
    "runtime_top_k": "top_k",
    "runtime_top_p": "top_p",
    "random_seed": "seed",
    "min_length": "min_tokens",
    "len_penalty": "length_penalty",
    "n": "num_return_sequences",
}
"""Other names by which clients know some of them, and what they stand for."""

INPUTS: tuple[Tensor, ...] = (
    *_INPUTS,
    *(
        # Of any size, so that clients that must send every input can send an empty one.
        Tensor(alias, tensor.datatype, (ANY,), f"another name of {name}; empty is absent")
        for alias, name in ALIASES.items()
        for tensor in _INPUTS
        if tensor.name == name
    ),
)

OUTPUTS: tuple[Tensor, ...] = (
    Tensor("text_output", "BYTES", (1,), "text of the new tokens; whole UTF-8 characters only"),
    Tensor("output_ids", "INT32", (ANY,), "ids of the new tokens"),
    Tensor("finish_reason", "BYTES", (1,), "empty until the answer's last response: then stop or length"),
    Tensor("prompt_tokens", "INT32", (1,), "tokens of the prompt"),
    Tensor("completion_tokens", "INT32", (1,), "tokens generated so far, resumed ones included"),
    Tensor("sequence_index", "INT32", (1,), "which answer this is, from 0; sent when several were asked for"),
    Tensor("output_log_probs", "FP32", (ANY,), "log-probabilities of the new tokens; sent when asked for"),
    Tensor("cum_log_probs", "FP32", (1,), "their sum so far, without resumed tokens; sent when asked for"),
    Tensor("top_ids", "INT32", (ANY, ANY), "per new token, the likeliest tokens at its place; sent when asked for"),
    Tensor("top_log_probs", "FP32", (ANY, ANY), "their log-probabilities; sent when asked for"),
    Tensor(
        "prompt_log_probs",
        "FP32",
        (ANY,),
        "log-probabilities of the prompt's tokens from the second on; sent when asked for, with the first response",
    ),
    Tensor("prompt_top_ids", "INT32", (ANY, ANY), "the likeliest tokens at their places; sent with them"),
    Tensor("prompt_top_log_probs", "FP32", (ANY, ANY), "their log-probabilities; sent with them"),
)
"""Log-probabilities are natural logarithms by the model's logits alone, before temperature, penalties and filters."""
