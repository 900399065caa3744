"""Put activations together from exp and log1p.

torch computes its own sigmoid, SiLU and softplus with vector instructions, and what is left over at the end with the C
library's functions, whose last bits differ. Its exp and log1p it always computes in the same way.
"""

import torch
from torch import Tensor

LINEAR_FROM = 20.0
"""As torch's softplus has it: exp(-20) is below half an ulp of 20 in FP32."""


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + (-x).exp())


def silu(x: Tensor) -> Tensor:
    """x / (1 + exp(-x))."""
    return x / (1 + (-x).exp())


def softplus(x: Tensor) -> Tensor:
    """ln(1 + exp(x))."""
    return torch.where(x > LINEAR_FROM, x, x.exp().log1p())
