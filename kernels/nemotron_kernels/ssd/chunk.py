"""Run the Mamba-2 recurrence chunk by chunk: matrix products inside a chunk, a carried state between chunks.

Source: Mamba-2 paper (arXiv 2405.21060) §6, listing 1. Inside a chunk
y_i = Σ_(j≤i) (C_i·B_j) exp(a_(j+1)+…+a_i) dt_j x_j with a = dt·A, to
which the state before the chunk adds C_i·h exp(a_1+…+a_i).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def ssd_chunk(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor, *, chunk: int
) -> tuple[Tensor, Tensor]:
    """state: (h, p, n), x: (l, h, p), dt: (l, h) before softplus, A, D, dt_bias: (h), B, C: (l, g, n).

    Returns y: (l, h, p) and the state after the last token, in the state's dtype.
    """
    wide = state.dtype
    x, dt, B, C = x.to(wide), F.softplus(dt.to(wide) + dt_bias.to(wide)), B.to(wide), C.to(wide)
    outputs = []
    for start in range(0, x.shape[0], chunk):
        part = slice(start, start + chunk)
        y, state = _one_chunk(state, x[part] * dt[part, :, None], dt[part] * A.to(wide), B[part], C[part])
        outputs.append(y)
    return torch.cat(outputs) + D.to(wide)[:, None] * x, state


def _one_chunk(state: Tensor, x: Tensor, a: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """x: (l, h, p) times dt, a: (l, h) log decays; D is left to the caller."""
    repeat = a.shape[1] // B.shape[1]
    x, B, C = x.transpose(0, 1), B.transpose(0, 1), C.transpose(0, 1)
    since_start, between = _log_decays(a.T)

    scores = (C @ B.transpose(1, 2)).repeat_interleave(repeat, dim=0) * between.exp()
    carried = (C.repeat_interleave(repeat, dim=0) * since_start.exp()[..., None]) @ state.transpose(1, 2)
    y = scores @ x + carried

    until_end = between[:, -1].exp()
    added = (x * until_end[..., None]).transpose(1, 2) @ B.repeat_interleave(repeat, dim=0)
    return y.transpose(0, 1), state * since_start[:, -1].exp()[:, None, None] + added


def _log_decays(a: Tensor) -> tuple[Tensor, Tensor]:
    """a: (h, l) → sums a_1+…+a_i: (h, l), and a_(j+1)+…+a_i: (h, i, j), -∞ where j > i.

    Differences of running sums cancel, so they are taken in FP64.
    """
    sums = a.double().cumsum(-1)
    between = sums[:, :, None] - sums[:, None, :]
    later = torch.ones(a.shape[1], a.shape[1], dtype=torch.bool, device=a.device).triu(1)
    return sums.to(a.dtype), between.to(a.dtype).masked_fill(later, -torch.inf)
