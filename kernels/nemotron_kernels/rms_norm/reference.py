"""Scale each row to root mean square 1, then by a weight: both in FP32, rounded once at the end."""

from collections.abc import Callable

from torch import Tensor

from nemotron_kernels import reduction


def rms_norm(x: Tensor, weight: Tensor, eps: float, mean: Callable[[Tensor], Tensor] = reduction.mean) -> Tensor:
    """x: (…, d), weight: (d) → the same shape and dtype as x."""
    wide = x.float()
    return (wide * (mean(wide.square()) + eps).rsqrt() * weight.float()).to(x.dtype)
