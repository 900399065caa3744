"""Random tensors, and how far two of them differ."""

import torch
from hypothesis import strategies as st
from torch import Tensor

FP32_ROUNDING = 1e-5
FP64_ROUNDING = 1e-12

SEEDS = st.integers(0, 2**31)


def chance(seed: int) -> torch.Generator:
    """What torch draws from, on the device where tensors are made unless one is named."""
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


def random(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The same normal numbers for the same seed, in any dtype and on any device."""
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, device="cpu")
    return numbers.to(torch.get_default_device(), dtype)


def error(given: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest number expected."""
    return float((given.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1e-30))
