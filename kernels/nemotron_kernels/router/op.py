"""Offer the fused router to torch as an operation, which graphs and compilers take as one."""

import torch
from torch import Tensor

from nemotron_kernels.launch import COUNTERS, Launch, counters, options, power_of_two

BLOCK_EXPERTS, BLOCK_WIDTH = 4, 512
"""Not tuned: no GPU was measured yet."""


def router_fused(
    x: Tensor, weight: Tensor, bias: Tensor, *, k: int, scale: float, normalize: bool
) -> tuple[Tensor, Tensor]:
    """As `router` without groups, on a CUDA device; a token's bits depend on the token alone."""
    if len(x) > COUNTERS:
        raise ValueError(f"{len(x)} tokens are too many for one launch: route them in several")
    chosen: tuple[Tensor, Tensor] = _op(x, weight, bias, k, scale, normalize, counters(x.device))
    return chosen


def plan(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    arrived: Tensor,
    ids: Tensor,
    weights: Tensor,
    scale: float,
    *,
    normalize: bool,
) -> Launch:
    """The one launch that routes all tokens."""
    from nemotron_kernels.router import fused

    (t, d), e = x.shape, weight.shape[0]
    scores, choice = (torch.empty(t, e, dtype=torch.float32, device=x.device) for _ in range(2))
    arguments = {
        **{"x": x, "weight": weight, "bias": bias, "scores": scores, "choice": choice, "arrived": arrived},
        **{"ids": ids, "weights": weights, "scale": scale, "x_row": x.stride(0)},
        **{"E": e, "D": d, "K": ids.shape[1], "NORMALIZE": normalize},
        **{"BLOCK_E": BLOCK_EXPERTS, "BLOCK_D": min(BLOCK_WIDTH, power_of_two(d)), "BLOCK_ALL": power_of_two(e)},
    }
    return Launch(fused.route, (-(-e // BLOCK_EXPERTS), t), arguments, options(warps=4))


@torch.library.custom_op("nemotron::route", mutates_args=("arrived",))
def _op(
    x: Tensor, weight: Tensor, bias: Tensor, k: int, scale: float, normalize: bool, arrived: Tensor
) -> tuple[Tensor, Tensor]:
    ids, weights = _shape(x, weight, bias, k, scale, normalize, arrived)
    plan(x, weight, bias, arrived, ids, weights, scale, normalize=normalize).run()
    return ids, weights


@_op.register_fake
def _shape(
    x: Tensor, weight: Tensor, bias: Tensor, k: int, scale: float, normalize: bool, arrived: Tensor
) -> tuple[Tensor, Tensor]:
    ids = torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    return ids, torch.empty(len(x), k, dtype=torch.float32, device=x.device)
