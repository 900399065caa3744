"""Offer the fused step to torch as an operation, which graphs and compilers take as one."""

import torch
from torch import Tensor

from nemotron_kernels.launch import Launch, counters, options, power_of_two
from nemotron_kernels.mamba_step.arguments import Block, RingParts, Rows

MOST_PART, MOST_PART_OF_MANY = 32, 16
"""Of a head's dimension in one program, for one new token and for more of them, whose longer tails take more registers:
two programs to a head of 64 or more, so that one sequence of Nano fills a GPU."""
WARPS, WARPS_OF_MANY = 4, 8
"""The same. Not tuned: no GPU was measured yet."""


def plan(
    rows: Rows, ring: RingParts, block: Block, gated: Tensor, arrived: Tensor, out: Tensor, most_old: int
) -> Launch:
    """The one launch of a step; `most_old`: tokens between an anchor and a first new token, at most."""
    from nemotron_kernels.mamba_step import fused

    (_, h, r, p), (_, g, _, n), (b, q) = ring.xs.shape, ring.Bs.shape, rows.positions.shape
    part = _part(p, MOST_PART if q == 1 else MOST_PART_OF_MANY)
    states, scales = (*ring.states, None)[:2]
    arguments = {
        **{"z": rows.z, "xbc": rows.xbc, "dt": rows.dt},
        **{"slots": rows.slots, "positions": rows.positions, "anchors": rows.anchors},
        **{"states": states, "scales": scales, "before": ring.before, "taps": ring.taps},
        **{"xs": ring.xs, "Bs": ring.Bs, "sums": ring.sums, "keys": ring.keys},
        **{"conv_weight": block.conv_weight, "conv_bias": block.conv_bias},
        **{"A": block.A, "D": block.D, "dt_bias": block.dt_bias, "norm": block.norm, "eps": block.eps},
        **{"gated": gated, "arrived": arrived, "out": out},
        **{"z_row": rows.z.stride(0), "xbc_row": rows.xbc.stride(0), "dt_row": rows.dt.stride(0), "q": q},
        **{"H": h, "P": p, "G": g, "N": n, "RING": r, "TAPS": block.conv_weight.shape[1]},
        **{"TAIL": power_of_two(most_old + q), "BLOCK_P": part, "BLOCK_N": power_of_two(n)},
        "BLOCK_G": power_of_two(h // g * p),
    }
    return Launch(fused.step, (h * -(-p // part), b), arguments, options(warps=WARPS if q == 1 else WARPS_OF_MANY))


def mamba_step_fused(rows: Rows, ring: RingParts, block: Block, *, most_old: int) -> Tensor:
    """As `mamba_step`; tails are at most `most_old` tokens long. Tensors are on a CUDA device.

    A row's bits depend on its sequence alone, q, and the types.
    """
    _check(rows, ring)
    parts = (ring.before, ring.taps, ring.xs, ring.Bs, ring.sums, ring.keys)
    tokens = (rows.z, rows.xbc, rows.dt, rows.slots, rows.positions, rows.anchors)
    weights = (block.conv_weight, block.conv_bias, block.A, block.D, block.dt_bias, block.norm)
    fixed = block.eps, most_old, counters(rows.z.device)
    out: Tensor = _op(list(ring.states), *parts, *tokens, *weights, *fixed)
    return out


def _part(p: int, most: int) -> int:
    """How much of a head's dimension one program takes: the largest power of two that divides it, if that is enough."""
    divisor = p & -p
    return min(divisor, most) if divisor >= 16 else min(power_of_two(p), most)


def _check(rows: Rows, ring: RingParts) -> None:
    kept = (*ring.states, ring.before, ring.taps, ring.xs, ring.Bs, ring.sums, ring.keys)
    if not all(part.is_contiguous() for part in (*kept, rows.positions)):
        raise ValueError("the fused step takes a ring, and positions, that are contiguous: pass whole tensors")
    if any(part.stride(-1) != 1 for part in (rows.z, rows.xbc, rows.dt)):
        raise ValueError("the fused step takes rows whose numbers lie side by side: pass columns of a product")


@torch.library.custom_op("nemotron::mamba_step", mutates_args=("taps", "xs", "Bs", "sums", "keys", "arrived"))
def _op(
    states: list[Tensor],
    before: Tensor,
    taps: Tensor,
    xs: Tensor,
    Bs: Tensor,
    sums: Tensor,
    keys: Tensor,
    z: Tensor,
    xbc: Tensor,
    dt: Tensor,
    slots: Tensor,
    positions: Tensor,
    anchors: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor | None,
    A: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    norm: Tensor,
    eps: float,
    most_old: int,
    arrived: Tensor,
) -> Tensor:
    rows = Rows(z, xbc, dt, slots, positions, anchors)
    ring = RingParts(tuple(states), before, taps, xs, Bs, sums, keys)
    block = Block(conv_weight, conv_bias, A, D, dt_bias, norm, eps)
    out = torch.empty(z.shape, dtype=z.dtype, device=z.device)
    gated = torch.empty(z.shape, dtype=torch.float32, device=z.device)
    plan(rows, ring, block, gated, arrived, out, most_old).run()
    return out


@_op.register_fake
def _shape(states: list[Tensor], before: Tensor, *others: object) -> Tensor:
    z = others[5]
    assert isinstance(z, Tensor)
    return torch.empty(z.shape, dtype=z.dtype, device=z.device)
