"""Change the logits of the few tokens that a request's biases, penalties and bans speak of."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nemotron_runtime.choice import Choice

Cells = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Tokens, and a number for each."""
Change = Callable[[Choice], Cells | None]
Apply = Callable[[Tensor, Tensor], Tensor]


def _bias(choice: Choice) -> Cells | None:
    return _cells(dict(choice.params.logit_bias))


def _repetition(choice: Choice) -> Cells | None:
    penalty = choice.params.repetition_penalty
    if penalty == 1:
        return None
    tokens, _ = choice.counts()
    return tokens, np.full(len(tokens), penalty)


def _occurrences(choice: Choice) -> Cells | None:
    """What presence and frequency in the output cost each token."""
    presence, frequency = choice.params.presence_penalty, choice.params.frequency_penalty
    if presence == 0 and frequency == 0:
        return None
    tokens, counts = choice.counts()
    seen = counts > 0
    return tokens[seen], presence + frequency * counts[seen]


def _bans(choice: Choice) -> Cells | None:
    banned = dict.fromkeys(_completing(choice.params.bad_words, choice.tokens), torch.inf)
    if choice.generated < choice.params.min_tokens:
        banned.update(dict.fromkeys(choice.params.stop_ids, torch.inf))
    return _cells(banned)


def _cells(numbers: Mapping[int, float]) -> Cells | None:
    return (np.array([*numbers]), np.array([*numbers.values()])) if numbers else None


def _completing(bad_words: Iterable[Sequence[int]], tokens: Sequence[int]) -> Iterable[int]:
    """The last tokens of those bad words of which all others stand at the end of `tokens`."""
    for word in bad_words:
        begun = len(word) - 1
        if not begun or tuple(tokens[-begun:]) == tuple(word[:-1]):
            yield word[-1]


def _divide(logits: Tensor, penalty: Tensor) -> Tensor:
    """As in CTRL (Keskar et al., 2019), with the sign heeded: either way the token gets less likely."""
    return torch.where(logits > 0, logits / penalty, logits * penalty)


CHANGES: Final[tuple[tuple[Change, Apply], ...]] = (
    (_bias, torch.add),
    (_repetition, _divide),
    (_occurrences, torch.sub),
    (_bans, torch.sub),
)
"""What changes which tokens' logits, and how, in this order."""


def changed(logits: Tensor, choices: Sequence[Choice]) -> Tensor:
    """logits: (r, v) → the same, or a copy in which some rows' logits are changed; element by element."""
    copied = False
    for change, apply in CHANGES:
        cells = {row: found for row, choice in enumerate(choices) if (found := change(choice))}
        if not cells:
            continue
        if not copied:
            logits, copied = logits.clone(), True
        tokens, numbers = (np.concatenate(parts) for parts in zip(*cells.values(), strict=True))
        rows = np.repeat([*cells], [len(tokens) for tokens, _ in cells.values()])
        place = torch.from_numpy(rows), torch.from_numpy(tokens)
        number = torch.from_numpy(numbers).to(logits.dtype)
        place_there = tuple(each.to(logits.device) for each in place)
        logits[place_there] = apply(logits[place_there], number.to(logits.device))
    return logits
