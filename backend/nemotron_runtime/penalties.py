"""Change the logits of the few tokens that a request's biases, penalties and bans speak of."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import torch
from torch import Tensor

from nemotron_runtime.choice import Choice

Change = Callable[[Choice], Mapping[int, float]]
Apply = Callable[[Tensor, Tensor], Tensor]


def _bias(choice: Choice) -> Mapping[int, float]:
    return dict(choice.params.logit_bias)


def _repetition(choice: Choice) -> Mapping[int, float]:
    penalty = choice.params.repetition_penalty
    return {} if penalty == 1 else dict.fromkeys(choice.tokens, penalty)


def _occurrences(choice: Choice) -> Mapping[int, float]:
    """What presence and frequency in the output cost each token."""
    presence, frequency = choice.params.presence_penalty, choice.params.frequency_penalty
    if presence == 0 and frequency == 0:
        return {}
    return {token: presence + frequency * count for token, count in Counter(choice.output).items()}


def _bans(choice: Choice) -> Mapping[int, float]:
    banned = dict.fromkeys(_completing(choice.params.bad_words, choice.tokens), torch.inf)
    if choice.generated < choice.params.min_tokens:
        banned.update(dict.fromkeys(choice.params.stop_ids, torch.inf))
    return banned


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
        cells = [(row, change(choice)) for row, choice in enumerate(choices)]
        rows = [row for row, numbers in cells for _ in numbers]
        if not rows:
            continue
        if not copied:
            logits, copied = logits.clone(), True
        place = torch.tensor(rows), torch.tensor([token for _, numbers in cells for token in numbers])
        number = torch.tensor([number for _, numbers in cells for number in numbers.values()], dtype=logits.dtype)
        place_there = tuple(each.to(logits.device) for each in place)
        logits[place_there] = apply(logits[place_there], number.to(logits.device))
    return logits
