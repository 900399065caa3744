"""Compute a few new tokens of many sequences from states some tokens old, which are read and not written.

Source: the ring of inputs of ReplaySSM (Dao-AILab and NVIDIA, 2026): y_t = C_t·S exp(L_t - L_S) + Σ_j (C_t·B_j)
exp(L_t - K_j) x_j over the tokens j after the state S, in whatever order a ring has them.
"""

import torch
from torch import Tensor


def ssd_window(
    states: Tensor,
    before: Tensor,
    xs: Tensor,
    Bs: Tensor,
    keys: Tensor,
    C: Tensor,
    sums: Tensor,
    hidden: Tensor | None = None,
) -> Tensor:
    """states: (b, h, p, n) with their L, before: (b, h); rings xs: (b, h, r, p), Bs: (b, g, r, n), keys K: (b, h, r).

    C: (b, g, q, n), sums L: (b, h, q); hidden: (b, 1, q, r) is true where a place is not for a token to see: one after
    it, or one that is no longer part of the sequence. Returns (b, h, q, p) in the states' dtype, without D·x.
    """
    b, h, p, n = states.shape
    g, q, r = C.shape[1], C.shape[2], xs.shape[2]
    wide = states.dtype
    C = C.to(wide).reshape(b * g, q, n)

    weights = (sums[..., None] - keys[:, :, None]).to(wide).exp_()
    if hidden is not None:
        weights.masked_fill_(hidden, 0.0)
    scores = torch.bmm(C, Bs.to(wide).reshape(b * g, r, n).transpose(1, 2))
    weights = weights.view(b, g, h // g, q, r) * scores.view(b, g, 1, q, r)
    y = torch.bmm(weights.view(b * h, q, r), xs.to(wide).reshape(b * h, r, p)).view(b, h, q, p)

    # A group's heads stand one below the other, so that C is not repeated for each.
    carried = torch.bmm(states.reshape(b * g, h // g * p, n), C.transpose(1, 2)).view(b, h, p, q)
    decay = (sums - before[..., None]).to(wide).exp_()
    return y.addcmul(carried.transpose(2, 3), decay[..., None])
