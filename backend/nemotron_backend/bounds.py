"""Refuse tensors whose mere size would keep others waiting."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from numpy.typing import NDArray

from nemotron_api.errors import InvalidRequest

Tensors = Mapping[str, NDArray[Any]]

BYTES_PER_TOKEN: Final = 256
"""No vocabulary of the family has a token this long, so a prompt with more bytes cannot fit."""
WORDS: Final = 64
WORD_BYTES: Final = 1024
BIASES: Final = 1024
GUIDE_BYTES: Final = 64 << 10


def check(tensors: Tensors, max_sequence_tokens: int) -> None:
    """Raises InvalidRequest, with both numbers, before anything is decoded or copied."""
    for finding in _findings(tensors, max_sequence_tokens):
        raise InvalidRequest(finding)


def _findings(tensors: Tensors, tokens: int) -> Iterator[str]:
    limit = tokens * BYTES_PER_TOKEN
    if (size := _longest(tensors, "text_input")) > limit:
        yield f"text_input has {size} bytes, more than {tokens} tokens can hold ({limit}): shorten the prompt"
    for name in ("input_ids", "resume_ids"):
        if (count := _count(tensors, name)) > tokens:
            yield f"{name} holds {count} tokens, prompt and answer together may have {tokens}: shorten the prompt"
    for name in ("stop_words", "bad_words", "embedding_bias_words"):
        if (count := _count(tensors, name)) > WORDS:
            yield f"{name} holds {count} texts, at most {WORDS} are looked for: leave some out"
        if (size := _longest(tensors, name)) > WORD_BYTES:
            yield f"{name} holds a text of {size} bytes, at most {WORD_BYTES} may be: shorten it"
    if (size := _longest(tensors, "guided_decoding_guide")) > GUIDE_BYTES:
        yield f"guided_decoding_guide has {size} bytes, at most {GUIDE_BYTES} may be: shorten it"
    for name in ("logit_bias_ids", "end_id"):
        if (count := _count(tensors, name)) > BIASES:
            yield f"{name} holds {count} tokens, at most {BIASES} may be: leave some out"


def _count(tensors: Tensors, name: str) -> int:
    return tensors[name].size if name in tensors else 0


def _longest(tensors: Tensors, name: str) -> int:
    return max(map(len, tensors[name].ravel()), default=0) if name in tensors else 0
