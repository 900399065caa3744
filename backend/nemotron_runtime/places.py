"""Find where tokens lie in the rings, as row numbers that all Mamba blocks of a step share."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig
from nemotron_runtime.tails import BLOCK, RING

# Computed by numpy: a call of torch costs several times as much, and there are many, on a few numbers each.
Numbers = NDArray[np.int64]


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


def places(config: HybridConfig, slots: Numbers, positions: Numbers) -> Places:
    """slots: (b), positions: (b, n) in their sequences."""
    return Places(
        taps(slots, positions), rows(slots, positions, config.groups), rows(slots, positions, config.mamba_heads)
    )


def taps(slots: Numbers, positions: Numbers) -> Tensor:
    """(b · n) rows of a tensor (slot, r, …)."""
    return torch.from_numpy((slots[:, None] * RING + positions % RING).ravel())


def rows(slots: Numbers, positions: Numbers, parts: int) -> Tensor:
    """(b · parts · n) rows of a tensor (slot, part, r, …)."""
    part = slots[:, None] * parts + np.arange(parts)
    return torch.from_numpy((part[..., None] * RING + (positions % RING)[:, None]).ravel())


@dataclass(frozen=True, slots=True)
class Commit:
    """Sequences whose anchors move on by one block."""

    slots: Tensor
    places: Places
    seeds: Tensor
    anchors: Tensor
    """(b) where they move to."""


def commit(config: HybridConfig, slots: Sequence[int], anchors: Sequence[int], seeds: Tensor) -> Commit | None:
    """The commit of the block after each of the anchors, if there is any."""
    if not slots:
        return None
    positions = np.array(anchors)[:, None] + np.arange(BLOCK)
    moved = torch.tensor(anchors) + BLOCK
    return Commit(torch.tensor(slots), places(config, np.array(slots), positions), seeds, moved)


def hidden(anchors: Numbers, ends: Numbers, positions: Numbers) -> Tensor:
    """Which places (b, 1, q, r) a token at `positions` (b, q) must not see.

    anchors, ends: (b), where each sequence's tail begins and, with this step's tokens, ends. A place holds the latest
    token before the end that belongs there; what lies there from before the anchor weighs nothing any more.
    """
    last = ends[:, None] - 1
    token = last - (last - np.arange(RING)) % RING
    seen = (token[:, None] <= positions[..., None]) & (token[:, None] >= anchors[:, None, None])
    return torch.from_numpy(~seen[:, None])
