"""Open the place a URI names as a set of files to read."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol
from urllib.parse import unquote

from nemotron_api.errors import InvalidSpec, SourceError, SourceNotFound, UnsupportedSource
from nemotron_build.digest import SUMS, paths_below


class Source(Protocol):
    """A checkpoint somewhere: what every scheme has to offer."""

    def sizes(self) -> Mapping[str, int]:
        """Bytes of every file, by its path, in the digest's order."""

    def open(self, path: str) -> BinaryIO:
        """The content of one file; raises SourceError, reading it OSError."""

    def sums(self) -> str | None:
        """The text of SHA256SUMS, if the source has one."""


@dataclass(frozen=True, slots=True)
class Access:
    """What this process may read: a claim's mount, the files of the machine, or nothing."""

    claim: Path | None = None
    files: bool = False


@dataclass(frozen=True, slots=True)
class Folder:
    """A checkpoint in a directory; links may lead anywhere below `boundary` and nowhere else."""

    root: Path
    boundary: Path

    def sizes(self) -> Mapping[str, int]:
        with _reading(self.root.name):
            return {path: self._inside(path).stat().st_size for path in paths_below(self.root)}

    def open(self, path: str) -> BinaryIO:
        with _reading(path):
            return self._inside(path).open("rb")

    def sums(self) -> str | None:
        if not (self.root / SUMS).exists():
            return None
        with self.open(SUMS) as file:
            return file.read().decode(errors="replace")

    def _inside(self, path: str) -> Path:
        real = (self.root / path).resolve()
        if not real.is_relative_to(self.boundary.resolve()):
            raise SourceError(f"{path} is a link that leaves the volume: put the file itself there")
        return real


@contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        name = error.filename or path
        raise SourceError(f"user {os.getuid()} cannot read {name}: {error.strerror}") from error


def open_source(uri: str, access: Access) -> Source:
    """The source that `uri` names; raises UnsupportedSource, SourceNotFound or InvalidSpec."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in SCHEMES:
        raise UnsupportedSource(f"{uri!r} is not a source we can fetch: known are {', '.join(FORMS.values())}")
    return SCHEMES[scheme](unquote(rest), access)


def _claim(rest: str, access: Access) -> Source:
    claim, _, path = rest.partition("/")
    if not claim or "\0" in path or ".." in PurePosixPath(path).parts:
        raise InvalidSpec(f"pvc://{rest} names no claim, or leaves it: write {FORMS['pvc']}")
    if access.claim is None:
        raise InvalidSpec(f"pvc://{rest} needs its claim mounted: say where with --source-mount")
    return _folder(access.claim / path.strip("/"), access.claim, f"/{path} on claim {claim}")


def _file(rest: str, access: Access) -> Source:
    if not access.files:
        raise UnsupportedSource(f"file://{rest} is for the command line only: a Job reads claims, write {FORMS['pvc']}")
    if not rest.startswith("/") or "\0" in rest:
        raise InvalidSpec(f"file://{rest} is not an absolute path: write {FORMS['file']}")
    return _folder(Path(rest), Path("/"), rest)


def _folder(root: Path, boundary: Path, name: str) -> Source:
    with _reading(name):
        if not root.exists():
            raise SourceNotFound(f"there is no {name}: check the path")
        if not root.is_dir():
            raise SourceNotFound(f"{name} is not a directory: name the folder that holds config.json")
    return Folder(root, boundary)


SCHEMES: Mapping[str, Callable[[str, Access], Source]] = {"pvc": _claim, "file": _file}
FORMS: Mapping[str, str] = {"pvc": "pvc://<claim>/<path>", "file": "file:///<path>"}
