"""Add one half of a row to the other until one number is left: additions of elements, which no library reorders."""

import torch
from torch import Tensor


def sum_by_halves(x: Tensor) -> Tensor:
    """(…, n) → (…, 1); the same bits for the same row, in any company and on any device."""
    while (n := x.shape[-1]) > 1:
        half, odd = n // 2, x[..., n - n % 2 :]
        x = torch.cat([x[..., :half] + x[..., half : 2 * half], odd], -1)
    return x


def mean_by_halves(x: Tensor) -> Tensor:
    """(…, n) → (…, 1)."""
    return sum_by_halves(x) / x.shape[-1]
