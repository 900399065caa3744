"""Keep the directory trees that images are stacked from, built once per content."""

import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from nemotron_devcluster.progress import step

UNUSED_DAYS = 14


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image: a tree, and a key that names everything it is made of."""

    name: str
    key: str
    build: Callable[[Path], None]
    """Fill an empty directory with the tree, which belongs to root and never changes after that."""

    @property
    def directory_name(self) -> str:
        return f"{self.name}-{self.key}"


@dataclass(frozen=True, slots=True)
class LayerStore:
    """The trees on disk, shared by all clusters and clones of this user."""

    directory: Path

    def ensure(self, layer: Layer) -> Path:
        """The layer's tree; built, and only then visible, when it is not there."""
        tree = self.directory / layer.directory_name
        if not tree.exists():
            unfinished = self.directory / f".{layer.directory_name}.{os.getpid()}"
            unfinished.mkdir(parents=True)
            try:
                with step(f"building layer {layer.directory_name}"):
                    layer.build(unfinished)
                unfinished.rename(tree)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
        os.utime(tree)  # its age since last use, for `prune`
        return tree

    def ensure_all(self, layers: Iterable[Layer]) -> None:
        for layer in layers:
            self.ensure(layer)

    def prune(self) -> None:
        """Delete what was not used for two weeks: layers of old lock files and old code."""
        oldest = time.time() - UNUSED_DAYS * 86400
        for tree in self.directory.iterdir() if self.directory.exists() else ():
            if tree.stat().st_mtime < oldest:
                shutil.rmtree(tree)
