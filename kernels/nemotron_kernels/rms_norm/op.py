"""Offer the fused norm to torch as an operation, which graphs and compilers take as one."""

import torch
from torch import Tensor

from nemotron_kernels.launch import Launch, options, power_of_two

WIDE, WARPS, WARPS_OF_WIDE = 2048, 4, 8
"""From so many numbers on, a row takes more warps. Not tuned: no GPU was measured yet."""


def add_rms_norm_fused(h: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """h, delta: (t, d), weight: (d) → their sum, and `rms_norm` of it, both in h's dtype; on a CUDA device.

    Without a delta the sum is h itself. A row's bits depend on the row alone.
    """
    normed, total = _op(h, delta, weight, eps)
    return (h if delta is None else total), normed


def plan(h: Tensor, delta: Tensor | None, weight: Tensor, eps: float, out: Tensor, total: Tensor) -> Launch:
    """The one launch of it."""
    from nemotron_kernels.rms_norm import fused

    t, d = h.shape
    arguments = {
        **{"h": h, "delta": delta, "weight": weight, "out": out, "total": total, "eps": eps},
        **{"h_row": h.stride(0), "delta_row": 0 if delta is None else delta.stride(0)},
        **{"D": d, "BLOCK": power_of_two(d)},
    }
    return Launch(fused.add_norm, (t,), arguments, options(warps=WARPS if d < WIDE else WARPS_OF_WIDE))


@torch.library.custom_op("nemotron::add_rms_norm", mutates_args=())
def _op(h: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    found: tuple[Tensor, Tensor] = _shape(h, delta, weight, eps)
    plan(h, delta, weight, eps, *found).run()
    return found


@_op.register_fake
def _shape(h: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    return h.new_empty(h.shape), h.new_empty(0 if delta is None else h.shape)
