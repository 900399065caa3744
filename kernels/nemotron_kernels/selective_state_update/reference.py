"""Step the Mamba-2 recurrence: h ← exp(dt·A)·h + dt·x⊗B, then y = h·C + D·x.

Source: Mamba-2 paper (arXiv 2405.21060) eq. 2 with scalar A per head. dt has no clamp beyond softplus.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def selective_state_update(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """state: (b, h, p, n), x: (b, h, p), dt: (b, h) before softplus, A, D, dt_bias: (h), B, C: (b, g, n).

    Returns y: (b, h, p) and the next state, both computed in the state's dtype: FP32, or FP64 for an oracle.
    """
    wide = state.dtype
    x, dt, B, C = x.to(wide), F.softplus(dt.to(wide) + dt_bias.to(wide)), B.to(wide), C.to(wide)
    heads_per_group = x.shape[1] // B.shape[1]
    B, C = B.repeat_interleave(heads_per_group, dim=1), C.repeat_interleave(heads_per_group, dim=1)
    decay = torch.exp(dt * A.to(wide))
    state = state * decay[..., None, None] + (dt[..., None] * x)[..., None] * B[:, :, None]
    y = (state @ C[..., None]).squeeze(-1) + D.to(wide)[:, None] * x
    return y, state
