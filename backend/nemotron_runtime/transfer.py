"""Move what a step needs to the device in one copy: each costs a launch and a wait, however few bytes it has."""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import accumulate
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def transferred(value: T, device: torch.device) -> T:
    """A tensor, or a tuple or dataclass made of tensors, with those on the device; all else in it stays as it is."""
    if device.type == "cpu":
        return value
    here: list[Tensor] = []

    def noted(tensor: Tensor) -> Tensor:
        here.append(tensor)
        return tensor

    _each_tensor(value, noted)
    there = iter(_copied(here, device))
    moved: T = _each_tensor(value, lambda _: next(there))
    return moved


def _each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The value with `change` applied to every tensor in it, always in the same order."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(_each_tensor(each, change) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: _each_tensor(getattr(value, part.name), change) for part in fields(value)})
    return value


def _copied(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """The tensors as views of one buffer on the device."""
    # The widest come first, so that each begins at a multiple of its width.
    order = sorted(range(len(tensors)), key=lambda place: -tensors[place].itemsize)
    flat = [tensors[place].contiguous().view(-1).view(torch.uint8) for place in order]
    starts = [0, *accumulate(map(len, flat))]
    # From pinned memory the copy needs no wait; torch keeps the memory until the copy is done.
    buffer = torch.empty(starts[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
    there = torch.cat(flat, out=buffer).to(device, non_blocking=True)
    found = {place: there[start : start + len(part)] for place, start, part in zip(order, starts, flat, strict=False)}
    return [found[place].view(tensor.dtype).view(tensor.shape) for place, tensor in enumerate(tensors)]
