"""Read a sealed artifact: its marker, its manifest, and whether the files are still what the manifest says."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from nemotron_api.build import COMPLETE, MANIFEST, Manifest
from nemotron_api.errors import ChecksumMismatch, SourceNotFound
from nemotron_build.digest import digest_of, hash_file, paths_below
from nemotron_build.progress import Log, report, silent


@dataclass(frozen=True, slots=True)
class Sealed:
    """An artifact that was published whole: `COMPLETE` names the manifest's digest, the manifest every file's."""

    directory: Path
    manifest: Manifest
    manifest_sha256: str


def read(directory: Path) -> Sealed:
    """The artifact in `directory`, its marker, manifest and file sizes checked.

    Raises SourceNotFound when nothing sealed is there, ChecksumMismatch naming the file that differs.
    """
    if not (directory / COMPLETE).is_file():
        raise SourceNotFound(f"{directory} is not a sealed artifact (no {COMPLETE}): build it first")
    sealed = read_unmarked(directory)
    if (directory / COMPLETE).read_bytes() != marker(sealed.manifest_sha256):
        raise ChecksumMismatch(f"{MANIFEST} in {directory} is not the one that {COMPLETE} names: build it again")
    return sealed


def read_unmarked(directory: Path) -> Sealed:
    """Like `read`, for a directory that may not have its marker yet."""
    try:
        content = (directory / MANIFEST).read_bytes()
        manifest = Manifest.model_validate_json(content)
    except (OSError, ValidationError) as error:
        raise ChecksumMismatch(f"{MANIFEST} in {directory} cannot be read: build it again ({error})") from error
    _check_files(directory, manifest)
    return Sealed(directory, manifest, hashlib.sha256(content).hexdigest())


def verify(sealed: Sealed, log: Log = silent) -> None:
    """Read every byte; raises ChecksumMismatch naming the first file that is not what the manifest says."""
    on_bytes = report(log, "verified", sealed.manifest.total_bytes)
    for file in sealed.manifest.files:
        if (found := hash_file(sealed.directory, file.path, on_bytes)) != file:
            raise ChecksumMismatch(
                f"{file.path} in {sealed.directory} has sha256 {found.sha256}, its manifest says {file.sha256}: "
                "the volume has lost or changed it; build the artifact again"
            )


def marker(manifest_sha256: str) -> bytes:
    """What COMPLETE says: the line that `sha256sum manifest.json` prints."""
    return f"{manifest_sha256}  {MANIFEST}\n".encode()


def _check_files(directory: Path, manifest: Manifest) -> None:
    expected = {file.path: file.bytes for file in manifest.files}
    found = {path: (directory / path).stat().st_size for path in paths_below(directory)}
    for name in (MANIFEST, COMPLETE):
        found.pop(name, None)
    for path in sorted(expected.keys() | found.keys()):
        if expected.get(path) != found.get(path):
            raise ChecksumMismatch(
                f"{path} in {directory} has {found.get(path, 'no')} bytes, its manifest says "
                f"{expected.get(path, 'no such file')}: build the artifact again"
            )
    if manifest.digest != digest_of(manifest.files):
        raise ChecksumMismatch(f"{MANIFEST} in {directory} contradicts itself: its digest is not that of its files")
