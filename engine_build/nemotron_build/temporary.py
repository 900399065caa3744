"""Reserve a temporary directory that is known to be dead once its process is."""

import errno
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MARK = ".tmp-"
_LOCK = ".lock"
# File systems without locks: leftovers can't be told from living drafts, so none is removed.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def reserve(folder: Path, name: str) -> Iterator[Path]:
    """A path `.<name>.tmp-<uuid>` in `folder` that nobody else uses; what is there at the end is removed.

    A locked file beside it says that its owner lives: the kernel drops the lock with the process, however it ends. The
    lock file is there before the path and goes after it, so that `sweep` finds every leftover by its lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{name}{_MARK}{uuid.uuid4().hex}"
    lock = _create_locked(path.with_name(path.name + _LOCK))
    try:
        yield path
    finally:
        _remove(path)
        os.close(lock)


def sweep(folder: Path) -> tuple[Path, ...]:
    """Remove what dead processes left in `folder`; the paths that were removed."""
    locks = sorted(folder.glob(f".*{_MARK}*{_LOCK}"))
    return tuple(path for lock in locks if _sweep_one(path := lock.with_name(lock.name.removesuffix(_LOCK))))


def _sweep_one(path: Path) -> bool:
    try:
        descriptor = os.open(path.with_name(path.name + _LOCK), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        if not _lock(descriptor):
            return False
        _remove(path)
        return True
    finally:
        os.close(descriptor)


def _create_locked(path: Path) -> int:
    """The descriptor of a new lock file, held. A sweep may take the file between its creation and its lock: again."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor, wait=True)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, *, wait: bool = False) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
    path.with_name(path.name + _LOCK).unlink(missing_ok=True)
