"""Keep sessions that lost their place, until they get one again: in memory, or in files, as far as there is room."""

import logging
import weakref
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nemotron_runtime.process import usable_memory

SHARE = 1 / 8
"""Of the memory that a process may use: weights, pools and the server need the rest."""

SUFFIX = ".parked.safetensors"

log = logging.getLogger(__name__)


class Kept(Protocol):
    """A session that is kept for as long as somebody has this."""

    def content(self) -> tuple[Tensor, ...]: ...


class Parking(Protocol):
    """Where sessions are kept."""

    def has_room(self, size: int) -> bool:
        """Whether it may have so many bytes more: who asks first need not copy a session for nothing."""

    def keep(self, content: Sequence[Tensor]) -> Kept | None:
        """Nothing where it has no room after all."""


class _Tensors:
    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tuple(tensors)

    def content(self) -> tuple[Tensor, ...]:
        return self._tensors


class _File:
    """A file that goes with the object: when its session goes on, is aborted, or the process ends in good order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        weakref.finalize(self, path.unlink, missing_ok=True)

    def content(self) -> tuple[Tensor, ...]:
        tensors = load_file(self._path)
        return tuple(tensors[str(place)] for place in range(len(tensors)))


class InMemory:
    """The process's own, up to a number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self.used = 0

    def has_room(self, size: int) -> bool:
        return self.used + size <= self._limit

    def keep(self, content: Sequence[Tensor]) -> Kept | None:
        size = _size(content)
        if not self.has_room(size):
            return None
        kept = _Tensors(content)
        self.used += size
        weakref.finalize(kept, self._free, size)
        return kept

    def _free(self, size: int) -> None:
        self.used -= size


class InFiles:
    """One file for each session, in a directory that no other engine uses; what a killed one left there is removed."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.glob(f"*{SUFFIX}"):
            left.unlink()
        self._directory = directory
        self._numbers = count()

    def has_room(self, size: int) -> bool:
        return True

    def keep(self, content: Sequence[Tensor]) -> Kept | None:
        path = self._directory / f"{next(self._numbers)}{SUFFIX}"
        kept = _File(path)
        try:
            save_file({str(place): tensor.contiguous() for place, tensor in enumerate(content)}, path)
        except (OSError, SafetensorError) as error:
            log.warning("%s takes no file of %d bytes (%s): make room there", path.parent, _size(content), error)
            return None
        return kept


class InTurn:
    """The first of several places that has room."""

    def __init__(self, *places: Parking) -> None:
        self._places = places

    def has_room(self, size: int) -> bool:
        return any(place.has_room(size) for place in self._places)

    def keep(self, content: Sequence[Tensor]) -> Kept | None:
        size = _size(content)
        attempts = (place.keep(content) for place in self._places if place.has_room(size))
        return next((kept for kept in attempts if kept is not None), None)


def open_parking(limit_bytes: int | None, directory: Path | None) -> Parking:
    """Memory up to the limit, or a share of this process's where none is given; then files, where they have a place."""
    memory = InMemory(int(usable_memory() * SHARE) if limit_bytes is None else limit_bytes)
    return InTurn(memory, InFiles(directory)) if directory else memory


def _size(content: Sequence[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in content)
