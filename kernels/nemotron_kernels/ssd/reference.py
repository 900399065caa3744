"""Run the Mamba-2 recurrence token by token: the truth that every chunked form is held to."""

import torch
from torch import Tensor

from nemotron_kernels.selective_state_update import selective_state_update


def ssd_sequential(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """state: (h, p, n), x: (l, h, p), dt: (l, h) before softplus, A, D, dt_bias: (h), B, C: (l, g, n).

    Returns y: (l, h, p) and the state after the last token, in the state's dtype.
    """
    outputs = []
    state = state[None]
    for t in range(x.shape[0]):
        y, state = selective_state_update(state, x[t, None], dt[t, None], A, B[t, None], C[t, None], D, dt_bias)
        outputs.append(y)
    return torch.cat(outputs), state[0]
