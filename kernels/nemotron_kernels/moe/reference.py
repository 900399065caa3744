"""Add up a token's experts, each down(relu(up(x))²), one token and one expert at a time."""

import torch
import torch.nn.functional as F
from torch import Tensor


def moe(x: Tensor, ids: Tensor, weights: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """x: (t, d), ids, weights: (t, k), up: (e, inner, d), down: (e, d, inner) → (t, d) in x's dtype.

    The weighted sum is FP32, in the order of `ids`, and rounded once.
    """
    out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    for t in range(x.shape[0]):
        for expert, weight in zip(ids[t].tolist(), weights[t], strict=True):
            inner = F.relu(F.linear(x[t], up[expert])).square()
            out[t] += weight * F.linear(inner, down[expert]).float()
    return out.to(x.dtype)
