"""Keep sessions that lost their place, until they get one again: in memory, or in files."""

import logging
import weakref
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

SUFFIX = ".parked.safetensors"

log = logging.getLogger(__name__)


class Kept(Protocol):
    """A session that is kept for as long as somebody has this."""

    def content(self) -> tuple[Tensor, ...]: ...


class Parking(Protocol):
    """Where sessions are kept."""

    def keep(self, content: Sequence[Tensor]) -> Kept: ...


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
    """The process's own."""

    def keep(self, content: Sequence[Tensor]) -> Kept:
        return _Tensors(content)


class InFiles:
    """One file for each session, in a directory that no other engine uses; what a killed one left there is removed."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for left in directory.glob(f"*{SUFFIX}"):
            left.unlink()
        self._directory = directory
        self._numbers = count()

    def keep(self, content: Sequence[Tensor]) -> Kept:
        path = self._directory / f"{next(self._numbers)}{SUFFIX}"
        kept = _File(path)
        try:
            save_file({str(place): tensor.contiguous() for place, tensor in enumerate(content)}, path)
        except (OSError, SafetensorError) as error:
            # A session is not lost for a full disk, nor are all the others.
            log.warning("a session is parked in memory, as %s takes no file (%s): make room there", path.parent, error)
            return _Tensors(content)
        return kept
