"""Say what a kernel is to be started with, so that it can be compiled as well where nothing runs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

COUNTERS = 1 << 16


@dataclass(frozen=True, slots=True)
class Launch:
    """One start of a Triton kernel."""

    kernel: Any
    grid: tuple[int, ...]
    arguments: Mapping[str, Any]
    """By the kernel's names for them: tensors, numbers, None."""
    options: Mapping[str, int]

    def run(self) -> None:
        if all(self.grid):
            self.kernel[self.grid](**self.arguments, **self.options)


def options(*, warps: int, stages: int = 1) -> Mapping[str, int]:
    """How a program is compiled: by so many warps, with loads so many rounds of its loop ahead."""
    # Products and the sums they go into are rounded once: the default of Triton's next version is another one.
    return {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}


@cache
def counters(device: torch.device) -> Tensor:
    """(COUNTERS) INT32 zeros, which kernels that count who arrived leave as zeros: one stream may use them at a time.

    Made once, so that a CUDA graph finds them where they were.
    """
    return torch.zeros(COUNTERS, dtype=torch.int32, device=device)


def why_missing(*, is_cuda: bool) -> str | None:
    """What stands in the way of Triton's kernels, if anything does; off CUDA, its interpreter runs them."""
    if not find_spec("triton"):
        return "Triton is not installed: install the package triton, as torch for CUDA asks for"
    from triton import knobs

    if is_cuda or knobs.runtime.interpret:
        return None
    return "Triton's kernels need a CUDA device, or its interpreter, which is slow: TRITON_INTERPRET=1"


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below a positive number."""
    return 1 << (number - 1).bit_length()
