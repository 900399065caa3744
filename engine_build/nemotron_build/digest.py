"""Give a directory one digest, the same that `sha256sum` gives a user by hand.

It is the sha256 of what `sha256sum` prints for the files, sorted by name:

    cd checkpoint && export LC_ALL=C && sha256sum $(ls | grep -v '^SHA256SUMS$' | sort) | sha256sum

Files in folders count too, by their path; hidden ones and SHA256SUMS itself don't.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from nemotron_api.build import FileEntry
from nemotron_api.errors import SourceError, WeightsInvalid
from nemotron_build.progress import OnBytes, unheard

SUMS = "SHA256SUMS"
CHUNK_BYTES = 8 << 20

# sha256sum escapes these, JSON and logs suffer from them, and no checkpoint needs them.
_STRANGE = re.compile(r"[\\\x00-\x1f\x7f\ud800-\udfff]")
_LINE = re.compile(r"([0-9a-f]{64}) [ *](?:\./)?(.+)")


def paths_below(root: Path) -> tuple[str, ...]:
    """The files a digest covers, relative to `root`, in the order of their bytes.

    Links to files count as files, links to folders are not entered. Raises WeightsInvalid naming what cannot be read.
    """
    return tuple(sorted(_walk(root)))


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(folder, name).relative_to(root).as_posix()
            if name.startswith(".") or path == SUMS:
                continue
            if _STRANGE.search(path):
                raise WeightsInvalid(f"the file name {path!r} has a control character or a backslash: rename the file")
            if not Path(folder, name).is_file():
                raise WeightsInvalid(f"{path} is not a regular file; a broken link is an unfinished download")
            yield path


def _raise(error: OSError) -> None:
    raise error


def listing(files: Iterable[FileEntry]) -> str:
    """What `sha256sum` prints for the files, sorted by path."""
    return "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))


def digest_of(files: Iterable[FileEntry]) -> str:
    """`sha256:<hex>` of the listing: the identity of a directory's content."""
    return f"sha256:{hashlib.sha256(listing(files).encode()).hexdigest()}"


def hash_tree(root: Path) -> tuple[FileEntry, ...]:
    """Every file below `root` that a digest covers."""
    return tuple(hash_file(root, path) for path in paths_below(root))


def hash_file(root: Path, path: str, on_bytes: OnBytes = unheard) -> FileEntry:
    with (root / path).open("rb") as file:
        return hash_chunks(path, chunks(file), on_bytes)


def hash_chunks(path: str, content: Iterable[bytes], on_bytes: OnBytes) -> FileEntry:
    sha256, total = hashlib.sha256(), 0
    for chunk in content:
        sha256.update(chunk)
        total += len(chunk)
        on_bytes(len(chunk))
    return FileEntry(path=path, sha256=sha256.hexdigest(), bytes=total)


def chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def content(path: str, stream: BinaryIO) -> Iterator[bytes]:
    """A source's file to its end, which it closes; raises SourceError naming the file where it breaks off."""
    with stream:
        try:
            yield from chunks(stream)
        except OSError as error:
            raise SourceError(f"{path} cannot be read to its end: {error.strerror}") from error


def parse_sums(text: str) -> dict[str, str]:
    """path → sha256 in hex of a SHA256SUMS file.

    Raises WeightsInvalid for a line that `sha256sum` would not have printed.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        match = _LINE.fullmatch(line)
        if not match:
            raise WeightsInvalid(f"line {number} of {SUMS} is not '<64 hex digits>  <file>': write it with sha256sum")
        sums[match[2]] = match[1]
    return sums
