"""Build what a Mamba-2 block's step works on, with the past of each sequence in its ring."""

from dataclasses import fields

import torch
from torch import Tensor

from nemotron_kernels.mamba_step import Block, RingParts, Rows
from nemotron_kernels.stochastic_rounding import to_bytes
from tests.builders.numbers import random

RING, TAPS = 48, 4


def a_block(h: int, p: int, g: int, n: int, dtype: torch.dtype = torch.float32, *, bias: bool = True) -> Block:
    c = h * p + 2 * g * n
    return Block(
        conv_weight=random(c, TAPS, seed=1, dtype=dtype),
        conv_bias=random(c, seed=2, dtype=dtype) if bias else None,
        A=-random(h, seed=3).exp(),
        D=random(h, seed=4),
        dt_bias=random(h, seed=5),
        norm=random(h * p, seed=6, dtype=dtype),
        eps=1e-5,
    )


def a_ring(
    slots: int, h: int, p: int, g: int, n: int, dtype: torch.dtype = torch.float32, state: str = "FP32"
) -> RingParts:
    """Every place holds NaN, as the memory of someone else may, but for K."""
    c = h * p + 2 * g * n
    return RingParts(
        states=_kept(random(slots, h, p, n, seed=7), state),
        before=random(slots, h, seed=8, dtype=torch.float64) - 20,
        taps=torch.full((slots, RING, c), torch.nan, dtype=dtype),
        xs=torch.full((slots, h, RING, p), torch.nan, dtype=dtype),
        Bs=torch.full((slots, g, RING, n), torch.nan, dtype=dtype),
        sums=torch.full((slots, h, RING), torch.nan, dtype=torch.float64),
        keys=torch.full((slots, h, RING), torch.inf, dtype=torch.float64),
    )


def some_rows(ring: RingParts, slots: list[int], starts: list[int], anchors: list[int], q: int) -> Rows:
    """Columns of one product, as `in_proj` gives them."""
    (_, h, _, p), c, dtype = ring.xs.shape, ring.taps.shape[2], ring.xs.dtype
    z, xbc, dt = torch.split(random(len(slots) * q, h * p + c + h, seed=9, dtype=dtype), [h * p, c, h], dim=-1)
    positions = torch.tensor(starts)[:, None] + torch.arange(q)
    return Rows(z, xbc, dt, torch.tensor(slots), positions.contiguous(), torch.tensor(anchors))


def remember(ring: RingParts, rows: Rows) -> None:
    """Fill the rings with the tokens before the rows, as many as a step may look at."""
    for slot, start, anchor in zip(
        rows.slots.tolist(), rows.positions[:, 0].tolist(), rows.anchors.tolist(), strict=True
    ):
        if slot >= 0:
            for position in range(min(anchor, start - TAPS + 1), start):
                _token(ring, slot, position)


def copied(ring: RingParts) -> RingParts:
    """Its tails are: a step does not write states."""
    return RingParts(ring.states, *(getattr(ring, field.name).clone() for field in fields(ring)[1:]))


def tensors(ring: RingParts) -> dict[str, Tensor]:
    named = {field.name: getattr(ring, field.name) for field in fields(ring) if field.name != "states"}
    return {**named, **{f"states {i}": part for i, part in enumerate(ring.states)}}


def _token(ring: RingParts, slot: int, position: int) -> None:
    place, seed = position % RING, 1000 * slot + position + 100
    for offset, part in enumerate((ring.taps[slot, place], ring.xs[slot, :, place], ring.Bs[slot, :, place])):
        part.copy_(random(*part.shape, seed=seed + 7919 * offset))
    ring.sums[slot, :, place] = ring.before[slot] - 0.1 * (position + 1)
    ring.keys[slot, :, place] = ring.sums[slot, :, place] + random(ring.sums.shape[1], seed=seed).abs().double()


def _kept(states: Tensor, state: str) -> tuple[Tensor, ...]:
    if state == "INT8":
        codes, scales = to_bytes(states.flatten(2), torch.full_like(states.flatten(2), 0.5))
        return codes.contiguous().view(states.shape), scales
    return (states.half() if state == "FP16" else states,)
