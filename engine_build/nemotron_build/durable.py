"""Flush files and directories to disk: what was written is still there after a power cut."""

import os
from pathlib import Path


def sync_tree(root: Path) -> None:
    """Flush every file below `root`, then the directories that name them, innermost first."""
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            _sync(Path(folder, name), os.O_RDONLY)
        sync_directory(Path(folder))


def sync_directory(path: Path) -> None:
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
