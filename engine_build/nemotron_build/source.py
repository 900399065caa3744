"""Open the place a URI names as a set of files to read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol
from urllib.parse import unquote

from nemotron_api.build import FileEntry
from nemotron_api.errors import InvalidSpec, SourceNotFound, UnsupportedSource
from nemotron_build.folder import Folder, reading
from nemotron_build.progress import OnBytes


class Source(Protocol):
    """A checkpoint somewhere: what every scheme has to offer before its data is fetched."""

    def sizes(self) -> Mapping[str, int]:
        """Bytes of every file, by its path, in the digest's order."""

    def open(self, path: str) -> BinaryIO:
        """The content of one file; raises SourceError, reading it OSError."""

    def fetch(self, into: Path, partial: Path, on_bytes: OnBytes) -> tuple[FileEntry, ...]:
        """Put every file `into` a folder; what comes from far waits in `partial` until it is whole.

        Raises ChecksumMismatch or SourceError naming the file.
        """


@dataclass(frozen=True, slots=True)
class Access:
    """What this process may read: a claim's mount, the files of the machine, a hub as somebody, or nothing."""

    claim: Path | None = None
    files: bool = False
    hub_endpoint: str | None = None
    """Of a mirror; None is huggingface.co."""
    hub_token: str | None = None


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


def _hub(rest: str, access: Access) -> Source:
    # Only who fetches from a hub needs its library.
    from nemotron_build.hub import open_hub

    return open_hub(rest, access.hub_endpoint, access.hub_token)


def _folder(root: Path, boundary: Path, name: str) -> Source:
    with reading(name):
        if not root.exists():
            raise SourceNotFound(f"there is no {name}: check the path")
        if not root.is_dir():
            raise SourceNotFound(f"{name} is not a directory: name the folder that holds config.json")
    return Folder(root, boundary)


SCHEMES: Mapping[str, Callable[[str, Access], Source]] = {"hf": _hub, "pvc": _claim, "file": _file}
FORMS: Mapping[str, str] = {
    "hf": "hf://<owner>/<repository>@<commit>",
    "pvc": "pvc://<claim>/<path>",
    "file": "file:///<path>",
}
