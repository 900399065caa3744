"""Libraries at their worst: a sum is rounded otherwise for every shape, as on a GPU that chooses kernels by shape."""

# mypy: disable-error-code="no-untyped-call"

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nemotron_api.hybrid_config import HybridConfig
from nemotron_runtime.config import RuntimeConfig
from nemotron_runtime.executor import TorchExecutor, open_executor

PRODUCTS = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "scaled_dot_product_attention")
REDUCTIONS = ("sum", "mean")
SPLIT_FROM = 32
"""Elements: no library splits shorter sums, a row of which is less than one warp's."""


class Hostile(TorchDispatchMode):
    """While it is entered, by this thread, what is summed up is rounded by the shapes that the sums are of."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, result = func.overloadpacket.__name__, func(*args, **(kwargs or {}))
        if name == "cumsum":
            return _cut(*args)
        if name in PRODUCTS or (name in REDUCTIONS and args[0].numel() >= SPLIT_FROM * result.numel()):
            return _rounded(result, name, args) if result.is_floating_point() else result
        return result


def _rounded(result: Tensor, name: str, args: Any) -> Tensor:
    """One of three neighbours, by the shapes."""
    shapes = [tuple(arg.shape) for arg in args if isinstance(arg, Tensor)]
    step = crc32(f"{name}{shapes}".encode()) % 3 - 1
    return result + result * (step * torch.finfo(result.dtype).eps)


def _cut(x: Tensor, dim: int) -> Tensor:
    """The sums so far, those of the second half put together first, where that is depends on the length."""
    first, second = x.tensor_split([x.shape[dim] // 2], dim)
    head = first.cumsum(dim)
    return torch.cat([head, second.cumsum(dim) + (head[..., -1:] if head.shape[dim] else 0)], dim)


@dataclass(slots=True)
class HostileExecutor:
    """The runtime's own executor, computing with such libraries."""

    executor: TorchExecutor

    def enter(self) -> None:
        # Modes belong to threads; this one ends with the engine's.
        Hostile().__enter__()
        self.executor.enter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.executor, name)


def open_hostile(directory: Path, runtime: RuntimeConfig, **options: Any) -> tuple[HybridConfig, HostileExecutor]:
    config, executor = open_executor(directory, runtime, **options)
    return config, HostileExecutor(executor)
