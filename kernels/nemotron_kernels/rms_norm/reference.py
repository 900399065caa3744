"""Scale each row to root mean square 1, then by a weight: both in FP32, rounded once at the end."""

from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x: (…, d), weight: (d) → the same shape and dtype as x."""
    wide = x.float()
    return (wide * (wide.square().mean(-1, keepdim=True) + eps).rsqrt() * weight.float()).to(x.dtype)
