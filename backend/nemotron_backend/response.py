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
        outputs |= _log_probs(chunk.logprobs, "output_log_probs", "top_ids", "top_log_probs")
        outputs["cum_log_probs"] = np.array([chunk.cum_log_probs], dtype=np.float32)
    if chunk.prompt_logprobs is not None:
        outputs |= _log_probs(chunk.prompt_logprobs, "prompt_log_probs", "prompt_top_ids", "prompt_top_log_probs")
    return outputs


def _log_probs(logprobs: Sequence[TokenLogprobs], chosen: str, ids: str, likeliest: str) -> dict[str, NDArray[Any]]:
    """The tensors of these names; the latter two only where likeliest tokens are told."""
    outputs: dict[str, NDArray[Any]] = {chosen: np.array([each.chosen for each in logprobs], dtype=np.float32)}
    if any(each.likeliest for each in logprobs):
        pairs = np.array([each.likeliest for each in logprobs], dtype=np.float64)
        outputs[ids] = pairs[:, :, 0].astype(np.int32)
        outputs[likeliest] = pairs[:, :, 1].astype(np.float32)
    return outputs
