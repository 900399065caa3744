"""Write a response's tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemotron_backend.answer import Chunk
from nemotron_runtime import TokenLogprobs


def tensors(chunk: Chunk) -> dict[str, NDArray[Any]]:
    """The outputs of nemotron_api.tensors, by name; those that only some requests ask for, only for them."""
    outputs: dict[str, NDArray[Any]] = {
        "text_output": np.array([chunk.text.encode()], dtype=np.object_),
        "output_ids": np.array(chunk.token_ids, dtype=np.int32),
        "finish_reason": np.array([chunk.finish_reason.encode()], dtype=np.object_),
        "prompt_tokens": np.array([chunk.prompt_tokens], dtype=np.int32),
        "completion_tokens": np.array([chunk.completion_tokens], dtype=np.int32),
    }
    if chunk.sequence_index is not None:
        outputs["sequence_index"] = np.array([chunk.sequence_index], dtype=np.int32)
    if chunk.logprobs is not None:
        outputs |= _log_probs(chunk.logprobs, chunk.cum_log_probs)
    return outputs


def _log_probs(logprobs: Sequence[TokenLogprobs], cumulative: float) -> dict[str, NDArray[Any]]:
    outputs: dict[str, NDArray[Any]] = {
        "output_log_probs": np.array([each.chosen for each in logprobs], dtype=np.float32),
        "cum_log_probs": np.array([cumulative], dtype=np.float32),
    }
    if any(each.likeliest for each in logprobs):
        pairs = np.array([each.likeliest for each in logprobs], dtype=np.float64)
        outputs["top_ids"] = pairs[:, :, 0].astype(np.int32)
        outputs["top_log_probs"] = pairs[:, :, 1].astype(np.float32)
    return outputs
