"""Activations inside of Triton kernels."""

import triton
import triton.language as tl

LINEAR_FROM = tl.constexpr(20.0)


@triton.jit
def silu(x):
    """FP32 → FP32."""
    return x / (1.0 + tl.exp(-x))


@triton.jit
def sigmoid(x):
    """FP32 → FP32."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def softplus(x):
    """FP32 → FP64, rounded to FP32 as torch's is; through FP64, as fast FP32 logarithms have no digits near 1."""
    wide = x.to(tl.float64)
    small = tl.log(1.0 + tl.exp(tl.minimum(wide, LINEAR_FROM)))
    return tl.where(wide > LINEAR_FROM, wide, small).to(tl.float32).to(tl.float64)
