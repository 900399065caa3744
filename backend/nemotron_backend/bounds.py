"""Refuse tensors whose mere size would keep others waiting."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from numpy.typing import NDArray

from nemotron_api.errors import InvalidRequest

Tensors = Mapping[str, NDArray[Any]]

BYTES_PER_TOKEN: Final = 256
"""No vocabulary of the family has a token this long, so a prompt with more bytes cannot fit."""
STOP_WORDS: Final = 64
STOP_WORD_BYTES: Final = 1024


def check(tensors: Tensors, max_sequence_tokens: int) -> None:
    """Raises InvalidRequest, with both numbers, before anything is decoded or copied."""
    for finding in _findings(tensors, max_sequence_tokens):
        raise InvalidRequest(finding)


def _findings(tensors: Tensors, tokens: int) -> Iterator[str]:
    limit = tokens * BYTES_PER_TOKEN
    if (size := _longest(tensors, "text_input")) > limit:
        yield f"text_input has {size} bytes, more than {tokens} tokens can hold ({limit}): shorten the prompt"
    if (count := _count(tensors, "input_ids")) > tokens:
        yield f"input_ids holds {count} tokens, prompt and answer together may have {tokens}: shorten the prompt"
    if (count := _count(tensors, "stop_words")) > STOP_WORDS:
        yield f"stop_words holds {count} texts, at most {STOP_WORDS} are looked for: leave some out"
    if (size := _longest(tensors, "stop_words")) > STOP_WORD_BYTES:
        yield f"stop_words holds a text of {size} bytes, at most {STOP_WORD_BYTES} may be: shorten it"


def _count(tensors: Tensors, name: str) -> int:
    return tensors[name].size if name in tensors else 0


def _longest(tensors: Tensors, name: str) -> int:
    return max(map(len, tensors[name].ravel()), default=0) if name in tensors else 0
