"""Multiply in tiles of one fixed shape, so that a row's bits do not depend on how many rows there are."""

import torch
import torch.nn.functional as F
from torch import Tensor

TILE_ROWS = 16
"""Libraries choose their order of summation by shape: one shape, one order."""


def linear_in_tiles(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x: (t, inputs), weight: (outputs, inputs), bias: (outputs) → (t, outputs), in the weight's dtype."""
    rows = x.shape[0]
    padded = F.pad(x, (0, 0, 0, -rows % TILE_ROWS))
    return torch.cat([F.linear(tile, weight, bias) for tile in torch.split(padded, TILE_ROWS)])[:rows]
