"""Choose the next token of each sequence; a choice depends on that sequence alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nemotron_runtime.types import SamplingParams

MASK64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Draw:
    """How to choose one token, and the token's position in its sequence."""

    params: SamplingParams
    position: int

    @property
    def is_greedy(self) -> bool:
        return self.params.temperature == 0

    @property
    def is_filtered(self) -> bool:
        return self.params.top_k > 0 or self.params.top_p < 1

    @property
    def noise(self) -> float:
        """A number in [0, 1) made of seed and position alone."""
        return _uniform(self.params.seed, self.position)


def sample(logits: Tensor, draws: Sequence[Draw]) -> list[int]:
    """logits: (r, v), one draw per row → r tokens.

    Sampling inverts the cumulative distribution in the order of the vocabulary, in FP64: unlike an order by
    probability, that order does not change when rounding differs.
    """
    tokens: list[int] = logits.argmax(-1).tolist()
    plain = [row for row, draw in enumerate(draws) if not draw.is_greedy and not draw.is_filtered]
    filtered = [row for row, draw in enumerate(draws) if not draw.is_greedy and draw.is_filtered]
    for rows, distribution in ((plain, _plain), (filtered, _filtered)):
        if rows:
            chosen = [draws[row] for row in rows]
            for row, token in zip(
                rows, _invert(distribution(_scaled(logits[rows], chosen), chosen), chosen), strict=True
            ):
                tokens[row] = token
    return tokens


def _scaled(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Logits over temperature, with the largest moved to 0 so that no temperature overflows."""
    wide = logits.double()
    return (wide - wide.amax(-1, keepdim=True)) / _column(draws, "temperature")


def _plain(scaled: Tensor, draws: Sequence[Draw]) -> Tensor:
    return scaled.softmax(-1)


def _filtered(scaled: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Probabilities of the top_k likeliest tokens, then of the likeliest of those that hold top_p; 0 for the others."""
    ordered, order = scaled.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(scaled.shape[-1])
    top_k = _column(draws, "top_k")
    ordered = ordered.masked_fill((top_k > 0) & (rank >= top_k), -torch.inf)
    share = ordered.softmax(-1)
    before = share.cumsum(-1) - share
    kept = share.masked_fill(before >= _column(draws, "top_p"), 0.0)
    return torch.zeros_like(scaled).scatter_(-1, order, kept)


def _invert(weights: Tensor, draws: Sequence[Draw]) -> list[int]:
    """The token in which a row's noise falls, when each token is as wide as its weight."""
    edges = weights.cumsum(-1)
    noise = torch.tensor([[draw.noise] for draw in draws], dtype=torch.float64)
    chosen = torch.searchsorted(edges, noise * edges[:, -1:], right=True)
    tokens: list[int] = chosen.squeeze(-1).tolist()
    return tokens


def _column(draws: Sequence[Draw], name: str) -> Tensor:
    return torch.tensor([[getattr(draw.params, name)] for draw in draws], dtype=torch.float64)


def _uniform(seed: int, position: int) -> float:
    """53 random bits of two rounds of splitmix64 (Steele, Lea and Flood, 2014), as a fraction."""
    return (_mix(_mix(seed & MASK64) + position) >> 11) / (1 << 53)


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK64
    return value ^ (value >> 31)
