"""Run the recurrence block by block, carrying the state."""

from collections.abc import Callable

import torch
from torch import Tensor

from nemotron_kernels.ssd.block import ssd_advance, ssd_block

Rounded = Callable[[Tensor, int], Tensor]
"""What the next block sees of a state after so many tokens."""


def unrounded(state: Tensor, tokens: int) -> Tensor:
    """All of it."""
    return state


def ssd_scan(
    state: Tensor,
    before: Tensor,
    x: Tensor,
    B: Tensor,
    C: Tensor,
    sums: Tensor,
    keys: Tensor,
    *,
    chunk: int,
    rounded: Rounded = unrounded,
) -> tuple[Tensor, Tensor]:
    """Shapes as `ssd_block` has them. Returns y: (b, h, l, p) and the state after the last token, not rounded."""
    outputs = []
    for start in range(0, x.shape[2], chunk):
        state = rounded(state, start) if start else state
        part = slice(start, start + chunk)
        tokens = x[:, :, part], B[:, :, part]
        outputs.append(ssd_block(state, before, *tokens, C[:, :, part], sums[..., part], keys[..., part]))
        state = ssd_advance(state, before, *tokens, sums[..., part], keys[..., part])
        before = sums[..., part][..., -1]
    return torch.cat(outputs, dim=2), state
