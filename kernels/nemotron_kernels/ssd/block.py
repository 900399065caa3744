"""Compute one block of tokens with matrix products: what is inside the block, and what the state before it adds.

Source: Mamba-2 paper (arXiv 2405.21060) §6, listing 1: y_i = Σ_(j≤i) (C_i·B_j) exp(L_i - K_j) x_j, to which the state S
before the block adds C_i·S exp(L_i - L_before).
"""

import torch
from torch import Tensor


def ssd_block(state: Tensor, before: Tensor, x: Tensor, B: Tensor, C: Tensor, sums: Tensor, keys: Tensor) -> Tensor:
    """state: (b, h, p, n) with its L, before: (b, h); x: (b, h, l, p), B, C: (b, g, l, n), sums L, keys K: (b, h, l).

    Returns (b, h, l, p) in the state's dtype, without D·x. Shapes alone decide the order of every sum.
    """
    wide, heads = state.dtype, state.shape[1]
    scores = _per_head(C.to(wide) @ B.to(wide).transpose(-1, -2), heads)
    weights = (sums[..., None] - keys[..., None, :]).to(wide).exp().tril()
    carried = _per_head(C.to(wide), heads) @ state.transpose(-1, -2)
    return (scores * weights) @ x.to(wide) + carried * (sums - before[..., None]).to(wide).exp()[..., None]


def ssd_advance(state: Tensor, before: Tensor, x: Tensor, B: Tensor, sums: Tensor, keys: Tensor) -> Tensor:
    """The state after the block; same shapes, without C."""
    wide, end = state.dtype, sums[..., -1:]
    weighted = x.to(wide) * (end - keys).to(wide).exp()[..., None]
    added = weighted.transpose(-1, -2) @ _per_head(B.to(wide), state.shape[1])
    return torch.addcmul(added, state, (end - before[..., None]).to(wide).exp()[..., None])


def _per_head(of_group: Tensor, heads: int) -> Tensor:
    """(b, g, …) → (b, h, …)."""
    return of_group.repeat_interleave(heads // of_group.shape[1], dim=1)
