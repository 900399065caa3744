"""Tokens to be chosen, and rows of logits to choose them from."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nemotron_runtime import SamplingParams
from nemotron_runtime.sampler import Choice, choose

VOCABULARY = 50
ROWS = 1000
"""Of one step: with more, the process would grow by what other tests measure."""


def some_logits(rows: int, seed: int = 0, vocabulary: int = VOCABULARY) -> Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 3


def a_choice(*output: int, prompt: Sequence[int] = (0,), **params: Any) -> Choice:
    return Choice(SamplingParams(**params), [*prompt, *output], len(prompt))


def the_token(logits: Tensor, choice: Choice) -> int:
    (chosen,) = choose(logits, [choice])
    return chosen.token


def drawn(logits: Tensor, count: int, **params: Any) -> Tensor:
    """Tokens of `count` draws from one row, with the seeds 0, 1, 2 …"""
    return tokens_of(logits, [a_choice(seed=seed, **params) for seed in range(count)])


def tokens_of(logits: Tensor, choices: Sequence[Choice]) -> Tensor:
    """What is chosen from one row of logits, again and again."""
    groups = [choices[start : start + ROWS] for start in range(0, len(choices), ROWS)]
    return torch.tensor([each.token for group in groups for each in choose(logits.expand(len(group), -1), group)])
