"""Compute a few new tokens of many sequences from states some tokens old, which are read and not written.

Source: the ring of inputs of ReplaySSM (Dao-AILab and NVIDIA, 2026): y_t = C_t·S exp(L_t - L_S) + Σ_j (C_t·B_j)
exp(L_t - K_j) x_j over the tokens j after the state S, in whatever order a ring has them.
"""

import torch
from torch import Tensor

CACHED_BYTES = 4 << 20
"""Of temporary values that are read back while they are still near the processor."""


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

    carried = _carried(states, C.view(b, g, q, n))
    decay = (sums - before[..., None]).to(wide).exp_()
    return y.addcmul(carried, decay[..., None])


def _carried(states: Tensor, C: Tensor) -> Tensor:
    """C·S for each head: (b, h, p, n), (b, g, q, n) → (b, h, q, p)."""
    (b, h, p, n), (_, g, q, _) = states.shape, C.shape
    if q > 1:
        # A group's heads stand one below the other, so that C is not repeated for each.
        by_group = torch.bmm(states.reshape(b * g, h // g * p, n), C.reshape(b * g, q, n).transpose(1, 2))
        return by_group.view(b, h, p, q).transpose(2, 3)
    # torch's products of many matrices with one vector each run at half the speed of this, a few states at a time.
    at_once = max(1, CACHED_BYTES // states[0].nbytes)
    parts = zip(torch.split(states.view(b, g, -1, n), at_once), torch.split(C, at_once), strict=True)
    return torch.cat([(state * c).sum(-1) for state, c in parts]).view(b, h, 1, p)
