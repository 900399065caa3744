"""Convolve each channel with its own k taps, then SiLU: y_i = silu(bias + Σ_j weight_j · x_(i-k+1+j)).

Source: Mamba-2 paper §7; `causal_conv1d_ref` of Dao-AILab/causal-conv1d has the same semantics.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def causal_conv1d(
    window: Tensor, weight: Tensor, bias: Tensor | None, silu: Callable[[Tensor], Tensor] = F.silu
) -> Tensor:
    """window: (…, k-1+l, c), the l inputs after the k-1 before them; weight: (c, k), bias: (c) → (…, l, c).

    Zeros stand for what is before a sequence's first token. Sums in FP32, oldest tap first whatever l is, and returns
    the window's dtype.
    """
    k = weight.shape[1]
    length = window.shape[-2] - k + 1
    taps = weight.float().unbind(1)
    y = window[..., :length, :].float() * taps[0]
    for j in range(1, k):
        y = y.addcmul(window[..., j : j + length, :].float(), taps[j])
    return silu(y if bias is None else y + bias.float()).to(window.dtype)
