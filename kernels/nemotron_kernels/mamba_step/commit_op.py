"""Offer the move of anchors to torch as an operation, which graphs and compilers take as one."""

import torch
from torch import Tensor

from nemotron_kernels.launch import Launch, options, power_of_two
from nemotron_kernels.mamba_step.arguments import RingParts
from nemotron_kernels.stochastic_rounding import SCALED_TOGETHER

PART = 32
"""Of a head's dimension at a time. Not tuned: no GPU was measured yet."""


def can_commit(ring: RingParts) -> bool:
    """Bytes share scales within a program's tile only where the state size is a power of two."""
    n = ring.Bs.shape[3]
    return len(ring.states) == 1 or n == power_of_two(n)


def commit_fused(ring: RingParts, slots: Tensor, seeds: Tensor, anchors: Tensor, *, layer: int, tokens: int) -> None:
    """Move the states of slots (b) to anchors (b), `tokens` tokens on, rounded as seeds (b) and the layer decide.

    As `ssd_advance` followed by the rounding of the states' type; a slot of -1 is nobody's. On a CUDA device.
    """
    if not can_commit(ring):
        raise ValueError("states of bytes, of a size that is no power of two: commit them with torch")
    parts = ring.before, ring.xs, ring.Bs, ring.sums, ring.keys
    _op(list(ring.states), *parts, slots, seeds, anchors, layer, tokens)


def plan(ring: RingParts, slots: Tensor, seeds: Tensor, anchors: Tensor, *, layer: int, tokens: int) -> Launch:
    """The one launch of it."""
    from nemotron_kernels.mamba_step import commit

    (_, h, r, p), (_, g, _, n) = ring.xs.shape, ring.Bs.shape
    states, scales = (*ring.states, None)[:2]
    arguments = {
        **{"states": states, "scales": scales, "before": ring.before, "xs": ring.xs, "Bs": ring.Bs},
        **{"sums": ring.sums, "keys": ring.keys, "slots": slots, "seeds": seeds, "anchors": anchors, "layer": layer},
        **{"H": h, "P": p, "G": g, "N": n, "RING": r, "TOKENS": tokens},
        **{"BLOCK_P": power_of_two(max(PART, -(-SCALED_TOGETHER // n))), "BLOCK_N": power_of_two(n)},
    }
    return Launch(commit.commit, (h, len(slots)), arguments, options(warps=4))


@torch.library.custom_op("nemotron::mamba_commit", mutates_args=("states", "before", "keys"))
def _op(
    states: list[Tensor],
    before: Tensor,
    xs: Tensor,
    Bs: Tensor,
    sums: Tensor,
    keys: Tensor,
    slots: Tensor,
    seeds: Tensor,
    anchors: Tensor,
    layer: int,
    tokens: int,
) -> None:
    ring = RingParts(tuple(states), before, xs, xs, Bs, sums, keys)
    plan(ring, slots, seeds, anchors, layer=layer, tokens=tokens).run()


@_op.register_fake
def _nothing(*given: object) -> None:
    return None
