"""Find where tokens lie in the rings, as row numbers that all Mamba blocks of a step share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig
from nemotron_runtime.tails import BLOCK, RING


@dataclass(frozen=True, slots=True)
class Places:
    """Rows of a ring's tensors for n tokens each of b sequences, whose leading dimensions are flattened.

    A ring's `taps` are rows by token, its `Bs` by group and token, its `xs`, `sums` and `keys` by head and token.
    """

    taps: Tensor
    """(b · n)."""
    groups: Tensor
    """(b · g · n)."""
    heads: Tensor
    """(b · h · n)."""


def places(config: HybridConfig, slots: Tensor, positions: Tensor) -> Places:
    """slots: (b), positions: (b, n) in their sequences."""
    place = positions % RING
    return Places(
        taps=(slots[:, None] * RING + place).flatten(),
        groups=_rows(slots, place, config.groups),
        heads=_rows(slots, place, config.mamba_heads),
    )


def _rows(slots: Tensor, place: Tensor, parts: int) -> Tensor:
    """(b · parts · n) rows of a tensor (slot, part, r, …)."""
    part = slots[:, None] * parts + torch.arange(parts)
    return (part[..., None] * RING + place[:, None]).flatten()


@dataclass(frozen=True, slots=True)
class Commit:
    """Sequences whose anchors move on by one block."""

    slots: Tensor
    places: Places


def commit(config: HybridConfig, slots: Sequence[int], anchors: Sequence[int]) -> Commit | None:
    """The commit of the block after each of the anchors, if there is any."""
    if not slots:
        return None
    index = torch.tensor(slots)
    positions = torch.tensor(anchors)[:, None] + torch.arange(BLOCK)
    return Commit(index, places(config, index, positions))


def hidden(anchors: Tensor, ends: Tensor, positions: Tensor) -> Tensor:
    """Which places (b, 1, q, r) a token at `positions` (b, q) must not see.

    anchors, ends: (b), where each sequence's tail begins and, with this step's tokens, ends. A place holds the latest
    token before the end that belongs there; what lies there from before the anchor weighs nothing any more.
    """
    ring = torch.arange(RING)
    last = ends[:, None] - 1
    token = last - (last - ring) % RING
    seen = (token[:, None] <= positions[..., None]) & (token[:, None] >= anchors[:, None, None])
    return ~seen[:, None]
