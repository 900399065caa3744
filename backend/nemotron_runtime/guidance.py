"""Take from rows of logits the tokens that guides forbid."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from nemotron_runtime.choice import Choice
from nemotron_runtime.grammar import GuideFailed, Words

NOTHING_LEFT: Final = (
    "bad_words and min_tokens ban every token that the guide allows here: leave them out, or widen the guide"
)


def guided(logits: Tensor, choices: Sequence[Choice]) -> tuple[Tensor, dict[int, str]]:
    """logits: (r, v) → the same, or a copy with −∞ for what a row's guide forbids; and why rows have nothing left.

    Rows without a guide, and those that failed, are as they were.
    """
    masks, failures = _masks(choices)
    if not masks:
        return logits, failures
    rows, forbidden = list(masks), _forbidden(list(masks.values()), logits)
    if len(rows) == len(logits):
        left = logits.masked_fill(forbidden, -torch.inf)
    else:
        left = logits.clone()
        left[rows] = logits[rows].masked_fill_(forbidden, -torch.inf)
    highest = left.amax(-1).tolist()
    for row in [row for row in rows if highest[row] == -math.inf]:
        failures[row], left[row] = NOTHING_LEFT, logits[row]
    return left, failures


def _masks(choices: Sequence[Choice]) -> tuple[dict[int, Words], dict[int, str]]:
    masks: dict[int, Words] = {}
    failures: dict[int, str] = {}
    for row, choice in enumerate(choices):
        if choice.grammar is None:
            continue
        try:
            words = choice.grammar.allowed(choice.tokens)
        except GuideFailed as failure:
            failures[row] = f"the guide cannot be followed any further: {failure}"
            continue
        # After a draft that the guide forbids nothing is chosen: the row before it knows better.
        if words is not None:
            masks[row] = words
    return masks, failures


def _forbidden(masks: Sequence[Words], logits: Tensor) -> Tensor:
    """(g, v) whether each token is forbidden, where `logits` are."""
    packed = ~np.stack(masks).view(np.uint8)
    bits = np.unpackbits(packed, axis=-1, count=logits.shape[-1], bitorder="little")
    return torch.from_numpy(bits.view(np.bool_)).to(logits.device)
