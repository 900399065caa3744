"""Round FP32 to FP16, or to bytes that share a scale, so that the mean over many draws is the number itself.

What is not finite stays so: too much for FP16 becomes infinite, and a block of bytes with such a number becomes NaN.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SCALED_TOGETHER = 128
"""Elements that share one scale."""
MOST = 127
"""The largest code; -128 is not used, as scales know no sign."""

EXPONENT_AT = 23
EXPONENT_MASK = 0xFF
LEAST_NORMAL = 127 - 14
"""FP16's smallest exponent, as FP32 writes it: numbers below have steps as wide."""
STEPS_BELOW = 10
"""A step of FP16 is 2^-10 of the power of two that begins its number."""


def to_half(values: Tensor, u: Tensor) -> Tensor:
    """FP16 of FP32 numbers; a number that FP16 has is itself, whatever is drawn."""
    exponents = (values.view(torch.int32) >> EXPONENT_AT).bitwise_and_(EXPONENT_MASK).clamp_(min=LEAST_NORMAL)
    steps = exponents.sub_(STEPS_BELOW).bitwise_left_shift_(EXPONENT_AT).view(torch.float32)
    # Powers of two: neither the quotient nor the product is rounded.
    return _to_whole(values / steps, u).mul_(steps).half()


def to_bytes(values: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """(…, n) FP32 → INT8 codes (…, n) and FP32 scales (…, ⌈n / SCALED_TOGETHER⌉)."""
    blocks = _blocks(values)
    scales = blocks.abs().amax(-1).div_(MOST)
    units = torch.where(scales > 0, scales, 1.0)
    # A quotient may pass MOST by its own rounding; NaN has no byte, and its scale says it all.
    codes = _to_whole(blocks / units[..., None], _blocks(u)).clamp_(-MOST, MOST).nan_to_num_(0.0)
    return codes.to(torch.int8).flatten(-2)[..., : values.shape[-1]], scales


def from_bytes(codes: Tensor, scales: Tensor) -> Tensor:
    """What `to_bytes` gave, as FP32 (…, n)."""
    return _blocks(codes).float().mul_(scales[..., None]).flatten(-2)[..., : codes.shape[-1]].contiguous()


def _to_whole(values: Tensor, u: Tensor) -> Tensor:
    """Up or down to whole numbers; the fraction is exact, where `values + u` would be rounded."""
    below = values.floor()
    return below.add_(u < values - below)


def _blocks(values: Tensor) -> Tensor:
    """(…, n) → (…, blocks, SCALED_TOGETHER), the last one filled up with zeros."""
    fill = -values.shape[-1] % SCALED_TOGETHER
    return F.pad(values, (0, fill)).reshape(*values.shape[:-1], -1, SCALED_TOGETHER)
