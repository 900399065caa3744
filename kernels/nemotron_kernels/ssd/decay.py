"""Sum up how much a sequence forgets: the numbers L and K of each token."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

UNITS = 2.0**32
"""Of one: FP64 has sums of such whole numbers exactly, in whatever order they are added up, as far as 2^21."""


def in_units(logs: Tensor) -> Tensor:
    """FP64 log decays, so rounded that a GPU, which sums up in an order of its own for every length, cannot differ."""
    return (logs * UNITS).round_().div_(UNITS)


def log_decays(
    before: Tensor,
    dt: Tensor,
    A: Tensor,
    dt_bias: Tensor,
    softplus: Callable[[Tensor], Tensor] = F.softplus,
    addends: Callable[[Tensor], Tensor] = torch.Tensor.double,
) -> tuple[Tensor, Tensor]:
    """before: (b, h) L of the token before, dt: (b, q, h) before softplus, A, dt_bias: (h) → L and K, each (b, h, q).

    FP64, since differences of sums cancel; summed one after the other, so that cuts change nothing. A token whose dt
    is 0 has K = ∞, as has a place of a ring that no token is in: it adds nothing.
    """
    steps = softplus(dt.to(torch.promote_types(dt.dtype, torch.float32)) + dt_bias).double().transpose(1, 2)
    logs = addends(steps * A.double()[:, None])
    if logs.shape[-1] == 1:
        sums = before[..., None] + logs
    else:
        sums = torch.cat([before[..., None], logs], -1).cumsum(-1)[..., 1:]
    return sums, sums - steps.log()
