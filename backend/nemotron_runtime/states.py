"""Keep recurrent states in the type an engine was packed for: read as FP32, written rounded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from nemotron_kernels.stochastic_rounding import SCALED_TOGETHER, from_bytes, to_bytes, to_half, uniform
from nemotron_runtime.config import StatePrecision

Part = tuple[tuple[int, ...], torch.dtype]
"""Shape and type of one of the tensors that hold a state."""


@dataclass(frozen=True, slots=True)
class Format:
    """How FP32 states (b, h, p, n) are kept."""

    parts: Callable[[int, int, int], tuple[Part, ...]]
    """h, p, n → what one state takes."""
    stored: Callable[[Tensor, Tensor], tuple[Tensor, ...]] | None
    """States, and a number in (0, 1) for each of their elements → parts (b, …); None where nothing is rounded."""
    read: Callable[..., Tensor]
    """The parts → FP32 states."""


def _bytes(values: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    codes, scales = to_bytes(values.flatten(2), u.flatten(2))
    return codes.view_as(values), scales


FORMATS: Mapping[StatePrecision, Format] = {
    "FP32": Format(
        parts=lambda h, p, n: (((h, p, n), torch.float32),),
        stored=None,
        read=lambda values: values,
    ),
    "FP16": Format(
        parts=lambda h, p, n: (((h, p, n), torch.float16),),
        stored=lambda values, u: (to_half(values, u),),
        read=lambda values: values.float(),
    ),
    "INT8": Format(
        parts=lambda h, p, n: (
            ((h, p, n), torch.int8),
            ((h, -(-p * n // SCALED_TOGETHER)), torch.float32),
        ),
        stored=_bytes,
        read=lambda codes, scales: from_bytes(codes.flatten(2), scales).view(codes.shape),
    ),
}


@dataclass(frozen=True, slots=True)
class Chance:
    """What decides, with their layer, how states of b sequences are rounded: nothing that company could change."""

    seeds: Tensor
    """(b) INT64, of the requests."""
    positions: Tensor
    """(b) INT64, the tokens that each state holds."""


@dataclass(frozen=True, slots=True)
class States:
    """One Mamba block's states of all slots."""

    format: Format
    layer: int
    parts: tuple[Tensor, ...]
    """(slot, …) each."""

    def read(self, slots: Tensor | slice) -> Tensor:
        """(b, h, p, n) FP32; of a slice, what is kept as FP32 is not copied."""
        chosen = (part[slots] if isinstance(slots, slice) else part.index_select(0, slots) for part in self.parts)
        return self.format.read(*chosen)

    def write(self, slots: Tensor, values: Tensor, chance: Chance) -> None:
        for part, stored in zip(self.parts, self._stored(values, chance), strict=True):
            part.index_copy_(0, slots, stored)

    def rounded(self, values: Tensor, chance: Chance) -> Tensor:
        """What `read` gives once the values are written."""
        return self.format.read(*self._stored(values, chance))

    def _stored(self, values: Tensor, chance: Chance) -> tuple[Tensor, ...]:
        if self.format.stored is None:
            return (values,)
        u = uniform(chance.seeds, chance.positions, self.layer, prod(values.shape[1:]))
        return self.format.stored(values, u.view_as(values))
