"""Choose k experts per token by biased sigmoid scores; weigh them by the unbiased ones.

Source: DeepSeek-V3 (arXiv 2412.19437) §2.1.2, without auxiliary loss. Everything is FP32; ties go to the lower index.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def router(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    k: int,
    groups: int,
    top_groups: int,
    scale: float,
    normalize: bool,
    linear: Callable[[Tensor, Tensor, Tensor | None], Tensor] = F.linear,
    sigmoid: Callable[[Tensor], Tensor] = torch.sigmoid,
) -> tuple[Tensor, Tensor]:
    """x: (t, d), weight: (e, d), bias: (e) → expert ids (t, k), ascending, and their FP32 weights (t, k)."""
    scores = sigmoid(linear(x.float(), weight.float(), None))
    choice = scores + bias.float()
    if top_groups < groups:
        choice = choice.masked_fill(_outside_best_groups(choice, groups, top_groups), -torch.inf)
    ids = _largest(choice, k).sort(-1).values
    weights = scores.gather(1, ids)
    if normalize:
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
    return ids, weights * scale


def _outside_best_groups(choice: Tensor, groups: int, top_groups: int) -> Tensor:
    """True for experts outside the `top_groups` groups whose two best experts score highest. choice: (t, e)."""
    members = choice.view(choice.shape[0], groups, -1)
    group_scores = members.topk(min(2, members.shape[-1]), dim=-1).values.sum(-1)
    outside = torch.ones_like(group_scores, dtype=torch.bool).scatter_(1, _largest(group_scores, top_groups), False)
    return outside.repeat_interleave(members.shape[-1], dim=1)


def _largest(values: Tensor, k: int) -> Tensor:
    """Indices of the k largest of each row; `topk` leaves the order of ties open, a stable sort does not."""
    return values.sort(dim=-1, descending=True, stable=True).indices[:, :k]
