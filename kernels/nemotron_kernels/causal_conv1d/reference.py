"""Convolve each channel with its own k taps, then SiLU: y_i = silu(bias + Σ_j weight_j · x_(i-k+1+j)).

The k-1 inputs before the first token are the sequence's `taps`; zeros stand for an empty sequence.
Source: Mamba-2 paper §7; `causal_conv1d_ref` of Dao-AILab/causal-conv1d has the same semantics.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_conv1d(x: Tensor, weight: Tensor, bias: Tensor | None, taps: Tensor) -> tuple[Tensor, Tensor]:
    """x: (l, c), weight: (c, k), bias: (c), taps: (k-1, c) → y: (l, c) and the next taps.

    Sums in FP32 and returns x's dtype.
    """
    length, k = x.shape[0], weight.shape[1]
    window = torch.cat([taps.to(x.dtype), x])
    y = _bias(bias, x)
    for j in range(k):
        y = y + window[j : j + length].float() * weight[:, j].float()
    return F.silu(y).to(x.dtype), window[length:]


def causal_conv1d_step(x: Tensor, weight: Tensor, bias: Tensor | None, taps: Tensor) -> tuple[Tensor, Tensor]:
    """The same for one token of each of b sequences. x: (b, c), taps: (b, k-1, c) → y: (b, c) and the next taps."""
    window = torch.cat([taps.to(x.dtype), x[:, None]], dim=1)
    y = _bias(bias, x) + (window.float() * weight.T.float()).sum(1)
    return F.silu(y).to(x.dtype), window[:, 1:]


def _bias(bias: Tensor | None, x: Tensor) -> Tensor:
    return torch.zeros(x.shape[-1], device=x.device) if bias is None else bias.float()
