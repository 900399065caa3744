"""Copy a checkpoint from a folder, verified on the way."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from nemotron_api.build import FileEntry
from nemotron_api.errors import ChecksumMismatch, SourceError
from nemotron_build.digest import SUMS, content, hash_chunks, parse_sums, paths_below
from nemotron_build.progress import OnBytes


@dataclass(frozen=True, slots=True)
class Folder:
    """A checkpoint in a directory; links may lead anywhere below `boundary` and nowhere else."""

    root: Path
    boundary: Path

    def sizes(self) -> Mapping[str, int]:
        with reading(self.root.name):
            return {path: self._inside(path).stat().st_size for path in paths_below(self.root)}

    def open(self, path: str) -> BinaryIO:
        with reading(path):
            return self._inside(path).open("rb")

    def sums(self) -> str | None:
        """The text of SHA256SUMS, if there is one."""
        if not (self.root / SUMS).exists():
            return None
        with self.open(SUMS) as file:
            return file.read().decode(errors="replace")

    def fetch(self, into: Path, partial: Path, on_bytes: OnBytes) -> tuple[FileEntry, ...]:
        """Copy every file, checking each against SHA256SUMS where there is one; what is near needs no `partial`."""
        sizes = self.sizes()
        sums = _sums(self, sizes)
        files = []
        for path, expected_bytes in sizes.items():
            file = _copy(self, path, into, on_bytes)
            if file.bytes != expected_bytes:
                raise SourceError(f"{path} had {expected_bytes} bytes, then {file.bytes}: it changes while it is read")
            if sums is not None and file.sha256 != sums[path]:
                raise ChecksumMismatch(f"{path} has sha256 {file.sha256}, {SUMS} says {sums[path]}: copy it again")
            files.append(file)
        return tuple(files)

    def _inside(self, path: str) -> Path:
        real = (self.root / path).resolve()
        if not real.is_relative_to(self.boundary.resolve()):
            raise SourceError(f"{path} is a link that leaves the volume: put the file itself there")
        return real


@contextmanager
def reading(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = error.filename or path
        raise SourceError(f"user {os.getuid()} cannot read {name}: {error.strerror}") from error


def _sums(source: Folder, sizes: Mapping[str, int]) -> Mapping[str, str] | None:
    """What SHA256SUMS promises, if there is one: then it must name exactly the files that are there."""
    text = source.sums()
    if text is None:
        return None
    sums = parse_sums(text)
    if unlisted := sorted(sizes.keys() - sums.keys()):
        raise ChecksumMismatch(f"{SUMS} does not list {unlisted[0]}: add it, or remove the file")
    if absent := sorted(sums.keys() - sizes.keys()):
        raise ChecksumMismatch(f"{SUMS} lists {absent[0]}, which is not there: copy it as well")
    return sums


def _copy(source: Folder, path: str, into: Path, on_bytes: OnBytes) -> FileEntry:
    target = into / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        return hash_chunks(path, _written(content(path, source.open(path)), file), on_bytes)


def _written(read: Iterable[bytes], file: BinaryIO) -> Iterator[bytes]:
    """What is read, each chunk once it is in `file`."""
    for chunk in read:
        file.write(chunk)
        yield chunk
