"""Tokens to be chosen, and rows of logits to choose them from."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nemotron_runtime import SamplingParams
from nemotron_runtime.sampler import Choice, choose

VOCABULARY = 50


def some_logits(rows: int, seed: int = 0, vocabulary: int = VOCABULARY) -> Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 3


def a_choice(*output: int, prompt: Sequence[int] = (0,), **params: Any) -> Choice:
    return Choice(SamplingParams(**params), [*prompt, *output], len(prompt))


def the_token(logits: Tensor, choice: Choice) -> int:
    (chosen,) = choose(logits, [choice])
    return chosen.token


def drawn(logits: Tensor, count: int, **params: Any) -> Tensor:
    """Tokens of `count` draws from one row, with the seeds 0, 1, 2 …"""
    chosen = choose(logits.expand(count, -1), [a_choice(seed=seed, **params) for seed in range(count)])
    return torch.tensor([each.token for each in chosen])
