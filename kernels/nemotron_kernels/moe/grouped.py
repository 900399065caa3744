"""Run each chosen expert once, over all the tokens that chose it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def moe_grouped(
    x: Tensor,
    ids: Tensor,
    weights: Tensor,
    up: Tensor,
    down: Tensor,
    linear: Callable[[Tensor, Tensor, Tensor | None], Tensor] = F.linear,
) -> Tensor:
    """x: (t, d), ids ascending in each row, weights: (t, k), up: (e, inner, d), down: (e, d, inner) → (t, d).

    An expert nobody chose is not read. The weighted sum is FP32, in the order of `ids`, and rounded once.
    """
    tokens, k = ids.shape
    order = ids.flatten().argsort(stable=True)
    rows = x.index_select(0, order // k)
    outputs, start = [], 0
    for expert, count in enumerate(ids.flatten().bincount().tolist()):
        if count:
            inner = F.relu(linear(rows[start : start + count], up[expert], None)).square()
            outputs.append(linear(inner, down[expert], None))
            start += count
    back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    chosen = torch.cat(outputs).index_select(0, back).view(tokens, k, -1)
    return (chosen.float() * weights[..., None]).sum(1).to(x.dtype)
