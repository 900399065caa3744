"""Draw Gumbel noise that seed, position and token id alone decide.

Every operation is one that IEEE 754 rounds correctly, or whole-number arithmetic: no library's logarithm, whose last
bit differs between vector lanes and devices. So the noise of a token is the same bits wherever it is computed.
"""

import math

import torch
from torch import Tensor

MASK64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB
FRACTION_BITS = 52
ONE = 1023 << FRACTION_BITS
"""The bits of 1.0 in FP64."""
ROOT_HALF = 0x3FE6A09E667F3BCD
"""The bits of √½."""
SERIES_TERMS = 6
"""Leave a relative error of the logarithm below 1e-10, far below what any number of draws could show."""


def key(seed: int, position: int) -> int:
    """The 64 bits that seed and position become, as a signed number."""
    return _signed(_mix(_mix(seed & MASK64) + position))


def gumbel(keys: Tensor, ids: Tensor) -> Tensor:
    """keys: (r, 1) and ids: (v,) or (r, v), INT64 → (r, v), FP64: samples of the standard Gumbel distribution."""
    return _log(_log(_uniform(keys, ids)).neg_()).neg_()


def _uniform(keys: Tensor, ids: Tensor) -> Tensor:
    """(r, v) FP64, between 0 and 1, neither included: the middle of one of 2^52 equal parts, by splitmix64."""
    bits = ids * _signed(GOLDEN) + keys
    for places, factor in ((30, MIX_1), (27, MIX_2), (31, 1)):
        bits.bitwise_xor_(_shifted(bits, places)).mul_(_signed(factor))
    fraction = _shifted(bits, 64 - FRACTION_BITS).bitwise_or_(ONE)
    return fraction.view(torch.float64).sub_(1 - 2.0 ** -(FRACTION_BITS + 1))


def _log(x: Tensor) -> Tensor:
    """Natural logarithm of normal positive FP64 numbers, which it overwrites.

    x = 2^e · m with m in [√½, √2); log m = 2·artanh(s) with s = (m − 1) / (m + 1), by its series in s².
    """
    bits = x.view(torch.int64)
    # Bits of positive numbers grow with them, by 1 << 52 for each doubling.
    exponent = (bits - ROOT_HALF).bitwise_right_shift_(FRACTION_BITS)
    m = bits.sub_(exponent << FRACTION_BITS).view(torch.float64)
    s = (m - 1).div_(m.add_(1))
    square = s * s
    series = square * (2 / (2 * SERIES_TERMS + 1))
    for term in reversed(range(1, SERIES_TERMS)):
        series.add_(2 / (2 * term + 1)).mul_(square)
    return exponent.double().mul_(math.log(2)).add_(series.add_(2).mul_(s))


def _mix(value: int) -> int:
    """One round of splitmix64 (Steele, Lea and Flood, 2014)."""
    value = (value + GOLDEN) & MASK64
    value = ((value ^ (value >> 30)) * MIX_1) & MASK64
    value = ((value ^ (value >> 27)) * MIX_2) & MASK64
    return value ^ (value >> 31)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """`bits` to the right as if they had no sign."""
    return (bits >> places).bitwise_and_((1 << (64 - places)) - 1)


def _signed(value: int) -> int:
    """The INT64 with the same bits."""
    return value - (1 << 64) if value >> 63 else value
