"""Note how likely the model found the tokens of prompts, as they are computed."""

from collections.abc import Callable, Sequence
from typing import Final

from torch import Tensor

from nemotron_runtime.batch import first_rows
from nemotron_runtime.sampler import logprobs_of
from nemotron_runtime.scheduler import Slice

ROWS: Final = 16
"""Whose logits exist at the same time: a prompt's would take more memory than its keys and values."""


def are_wanted(slices: Sequence[Slice]) -> bool:
    """Whether any of the slices computes what its request wants to know of its prompt."""
    return any(_unknown(piece) for piece in slices)


def note(slices: Sequence[Slice], normed: Tensor, logits: Callable[[Tensor], Tensor]) -> None:
    """Add to each request what its slice tells of its prompt.

    normed: (t, d) the rows of all slices, one after the other; `logits` makes (r, vocabulary) of (r, d).
    """
    for row, piece in zip(first_rows(slices), slices, strict=True):
        positions, request = _unknown(piece), piece.request
        for block in (positions[at : at + ROWS] for at in range(0, len(positions), ROWS)):
            first = row + block.start - piece.start
            for position, each in zip(block, logits(normed[first : first + len(block)]), strict=True):
                found = logprobs_of(each, request.tokens[position + 1], request.sampling.prompt_logprobs or 0)
                request.note_of_prompt(found)


def _unknown(piece: Slice) -> range:
    """The positions of a slice whose logits tell of a prompt token of which nothing is noted yet."""
    request = piece.request
    if request.prompt_logprobs is None:
        return range(0)
    return range(max(piece.start, len(request.prompt_logprobs)), min(piece.stop, request.prompt_tokens - 1))
