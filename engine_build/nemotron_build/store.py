"""Keep artifacts on one volume so that each is either there, whole and sealed, or not there."""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nemotron_api.build import COMPLETE, MANIFEST, Kind, Manifest
from nemotron_api.errors import InvalidSpec, NemotronError, VolumeFull, VolumeNotWritable
from nemotron_build import durable, sealed, temporary
from nemotron_build.progress import Log, silent
from nemotron_build.sealed import Sealed

FOLDERS: dict[Kind, str] = {"Weights": "weights", "Engine": "engines"}
PARTIAL = "partial"
SLACK_BYTES = 16 << 20
"""Room for what is not content: directories, the manifest, the file system's own blocks."""

_PENDING = f".{COMPLETE}"
"""The marker before the rename: written with everything else, so that marking is one more rename."""

_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


@dataclass(frozen=True, slots=True)
class Store:
    """`<root>/weights/<fingerprint>/` and `<root>/engines/<fingerprint>/`.

    An artifact is written under a temporary name, flushed, renamed, and marked `COMPLETE` last. Readers believe the
    marker alone; writers may die anywhere, and several may publish the same artifact: the first one wins.
    """

    root: Path

    def directory(self, kind: Kind, fingerprint: str) -> Path:
        if not re.fullmatch(r"[0-9a-f]{64}", fingerprint):
            raise InvalidSpec(f"{fingerprint!r} is not a fingerprint: 64 hex digits name an artifact in the store")
        return self.root / FOLDERS[kind] / fingerprint

    def partial(self, fingerprint: str) -> Path:
        """Where what was fetched of an artifact waits for the next attempt: kept when a writer dies."""
        return self.root / PARTIAL / self.directory("Weights", fingerprint).name

    def open(self, kind: Kind, fingerprint: str) -> Sealed:
        """The sealed artifact, file sizes checked; raises SourceNotFound or ChecksumMismatch."""
        return sealed.read(self.directory(kind, fingerprint))

    def recover(self, kind: Kind, fingerprint: str, log: Log = silent) -> Sealed | None:
        """What a former build left under this name, if every byte of it is right.

        Whole but unmarked, since its writer died before the last step: it is marked. Damaged: it is removed, so that
        building again heals it. Leftovers of dead writers in the same folder are removed as well.
        """
        directory = self.directory(kind, fingerprint)
        with self._writing():
            for leftover in temporary.sweep(directory.parent):
                log(f"removed what a dead build left: {leftover.name}")
            if not directory.exists():
                return None
            try:
                sealed.verify(sealed.read_unmarked(directory), log)
                _mark(directory)
                return sealed.read(directory)
            except (NemotronError, FileNotFoundError) as error:
                log(f"discarding what is there: {error}")
                self.discard(kind, fingerprint)
                return None

    def discard(self, kind: Kind, fingerprint: str) -> None:
        """Remove the artifact, if it is there: at once for readers, then its bytes."""
        directory = self.directory(kind, fingerprint)
        with self._writing(), temporary.reserve(directory.parent, fingerprint) as aside:
            try:
                directory.rename(aside)
            except FileNotFoundError:
                return  # another writer was faster

    @contextmanager
    def draft(self, kind: Kind, fingerprint: str, needed_bytes: int) -> Iterator[Path]:
        """An empty directory to fill and `seal`; gone at the end unless it was sealed.

        Raises VolumeFull, before anything is written, when `needed_bytes` are not free, and whenever the disk fills up.
        """
        directory = self.directory(kind, fingerprint)
        with self._writing(needed_bytes):
            directory.parent.mkdir(parents=True, exist_ok=True)
            if needed_bytes + SLACK_BYTES > self.free_bytes:
                raise self._full(needed_bytes)
            with temporary.reserve(directory.parent, fingerprint) as path:
                path.mkdir()
                yield path

    def seal(self, path: Path, manifest: Manifest) -> Sealed:
        """Publish the draft `path` as what its manifest says, or return what somebody else published meanwhile.

        Raises ChecksumMismatch when files and manifest differ in names or sizes.
        """
        directory = self.directory(manifest.kind, manifest.fingerprint)
        content = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False).encode()
        (path / MANIFEST).write_bytes(content)
        checked = sealed.read_unmarked(path)
        (path / _PENDING).write_bytes(sealed.marker(checked.manifest_sha256))
        durable.sync_tree(path)
        try:
            path.rename(directory)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        durable.sync_directory(directory.parent)
        _mark(directory)
        return sealed.read(directory)

    @property
    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    @contextmanager
    def _writing(self, needed_bytes: int = 0) -> Iterator[None]:
        """Say what to do about a volume that refuses to be written."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise self._full(needed_bytes) from error
            if error.errno in _REFUSED and str(error.filename or "").startswith(str(self.root)):
                raise VolumeNotWritable(
                    f"user {os.getuid()} cannot use {error.filename} ({error.strerror}): "
                    "set the pod's fsGroup, or make the volume writable"
                ) from error
            raise

    def _full(self, needed_bytes: int) -> VolumeFull:
        return VolumeFull(
            f"the artifact needs {needed_bytes + SLACK_BYTES} bytes and the store {self.root} has {self.free_bytes} "
            "free: enlarge the volume, or delete artifacts that nothing uses"
        )


def _mark(directory: Path) -> None:
    """Turn the pending marker into the marker; another writer may be faster."""
    try:
        (directory / _PENDING).rename(directory / COMPLETE)
    except FileNotFoundError:
        return
    durable.sync_directory(directory)
