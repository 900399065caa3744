"""A device that is not there: its tensors lie in the host's memory, but may only meet each other.

What CUDA refuses, it refuses: an operation on tensors of two devices. What CUDA does without a word and waits for, it
counts: copies to the device and back.
"""

# mypy: disable-error-code="no-untyped-call"

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from nemotron_api.hybrid_config import HybridConfig
from nemotron_runtime.config import RuntimeConfig
from nemotron_runtime.executor import ChooseDrafts, TorchExecutor, open_executor
from nemotron_runtime.moves import Move
from nemotron_runtime.scheduler import Slice

NAME = "privateuseone"
"""What torch calls a device that it does not know."""


class _Module:
    """What torch asks of a device's module when it seeds its random numbers."""

    def _lazy_init(self) -> None: ...

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None: ...

    def is_available(self) -> bool:
        return False


class _Guard(torch._C._acc.DeviceGuard):
    """There is one such device: nothing to switch."""

    def type_(self) -> Any:
        return torch._C._autograd.DeviceType.PrivateUse1


torch._register_device_module(NAME, _Module())  # type: ignore[arg-type]
torch._C._acc.register_python_privateuseone_device_guard(_Guard())

INDEXED_FROM_ANYWHERE = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)


class Far(Tensor):
    """A tensor that says it is elsewhere."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> "Far":
        # Views of tensors that were made in inference mode lose what torch counts their writes by.
        with torch.inference_mode(False):
            far: Far = torch.Tensor._make_wrapper_subclass(
                cls,
                near.shape,
                strides=near.stride(),
                storage_offset=near.storage_offset(),
                dtype=near.dtype,
                device=torch.device(NAME, 0),
            )
        far.near = near
        return far

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise AssertionError(f"{func} was called on the device's tensors outside of its mode")


@dataclass(slots=True)
class Traffic:
    """Copies between the devices."""

    sent: int = 0
    fetched: int = 0


class Elsewhere(TorchDispatchMode):
    """While it is entered, by this thread, the device is there."""

    def __init__(self) -> None:
        super().__init__()
        self.traffic = Traffic()

    def __enter__(self) -> "Elsewhere":
        # torch.tensor makes its tensor on the host and sends it, as on CUDA, instead of making it in one go.
        torch._C._set_only_lift_cpu_tensors(True)
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        far = {id(tensor.near): tensor for tensor in _tensors(args, kwargs) if isinstance(tensor, Far)}
        near = [tensor for tensor in _tensors(args, kwargs) if not isinstance(tensor, Far) and tensor.ndim]
        asked = kwargs.get("device")
        goes_far = bool(far) if asked is None else torch.device(asked).type == NAME
        self._count(func, far=bool(far), near=bool(near), goes_far=goes_far)
        result = func(*_near(args), **(_near(kwargs) | ({"device": "cpu"} if asked is not None else {})))
        if not goes_far:
            return result
        return tree_map_only(Tensor, lambda tensor: far[id(tensor)] if id(tensor) in far else Far(tensor), result)

    def _count(self, func: Any, *, far: bool, near: bool, goes_far: bool) -> None:
        if func is torch.ops.aten._local_scalar_dense.default or (far and not goes_far):
            self.traffic.fetched += far
        elif near and goes_far:
            copies = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
            assert not far or func in (*copies, *INDEXED_FROM_ANYWHERE), f"{func} takes tensors of two devices"
            self.traffic.sent += 1


def _tensors(*values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map_only(Tensor, found.append, values)
    return found


def _near(value: Any) -> Any:
    return tree_map_only(Far, lambda tensor: tensor.near, value)


@dataclass(slots=True)
class ElsewhereExecutor:
    """The runtime's own executor, on the device that is not there."""

    executor: TorchExecutor
    mode: Elsewhere
    runs: Counter[tuple[int, int]] = field(default_factory=Counter)
    """How many steps sent and fetched how often."""

    def enter(self) -> None:
        # Modes belong to threads; this one ends with the engine's.
        self.mode.__enter__()
        self.executor.enter()

    def move(self, moves: Sequence[Move]) -> None:
        self.executor.move(moves)

    def run(self, slices: Sequence[Slice], *, drafting: bool = False) -> Tensor:
        before = self.mode.traffic.sent, self.mode.traffic.fetched
        logits = self.executor.run(slices, drafting=drafting)
        self.runs[self.mode.traffic.sent - before[0], self.mode.traffic.fetched - before[1]] += 1
        return logits

    def draft(self, slices: Sequence[Slice], lengths: Sequence[int], choose: ChooseDrafts) -> list[tuple[int, ...]]:
        return self.executor.draft(slices, lengths, choose)

    @property
    def has_module(self) -> bool:
        return self.executor.has_module


def open_elsewhere(
    directory: Path, runtime: RuntimeConfig, *, threads: int, exact: bool, **parking: Any
) -> tuple[HybridConfig, ElsewhereExecutor]:
    with Elsewhere() as mode:
        config, executor = open_executor(directory, runtime, threads=threads, exact=exact, device=NAME, **parking)
    return config, ElsewhereExecutor(executor, mode)
