"""Write a response's tensors."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nemotron_backend.answer import Chunk


def tensors(chunk: Chunk) -> dict[str, NDArray[Any]]:
    """The outputs of nemotron_api.tensors, by name."""
    return {
        "text_output": np.array([chunk.text.encode()], dtype=np.object_),
        "output_ids": np.array(chunk.token_ids, dtype=np.int32),
        "finish_reason": np.array([chunk.finish_reason.encode()], dtype=np.object_),
        "prompt_tokens": np.array([chunk.prompt_tokens], dtype=np.int32),
        "completion_tokens": np.array([chunk.completion_tokens], dtype=np.int32),
    }
