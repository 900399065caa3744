"""Verify that a directory is the sealed engine that was promised."""

import hashlib
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from nemotron_api.build import COMPLETE, MANIFEST, FileEntry, Manifest
from nemotron_api.errors import EngineMismatch

# The weights' pages are read at their first use; hashing them first would double the time to ready.
HASHED_BYTES_MAX: Final = 4 * 1024 * 1024
BUILD_AGAIN: Final = "delete its NemotronArtifact, and the operator builds it again"


def verify(engine: Path, manifest_sha256: str) -> Manifest:
    """The engine's manifest. Raises EngineMismatch, naming the file, when something is not as it was sealed."""
    manifest = _read_manifest(engine, manifest_sha256)
    if manifest.kind != "Engine":
        raise EngineMismatch(f"{engine} holds {manifest.kind}, not an Engine: give the engine's directory")
    sealed_at = (engine / COMPLETE).stat().st_mtime_ns
    for file in manifest.files:
        _verify_file(engine, file, sealed_at)
    return manifest


def _read_manifest(engine: Path, promised: str) -> Manifest:
    if not (engine / COMPLETE).is_file():
        raise EngineMismatch(f"{engine} is not a sealed engine, it has no {COMPLETE}: {BUILD_AGAIN}")
    try:
        content = (engine / MANIFEST).read_bytes()
    except OSError as error:
        raise EngineMismatch(f"{engine / MANIFEST} cannot be read ({error.strerror}): {BUILD_AGAIN}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != promised.removeprefix("sha256:"):
        raise EngineMismatch(f"{engine / MANIFEST} has sha256 {found}, promised was {promised}: {BUILD_AGAIN}")
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        raise EngineMismatch(
            f"{engine / MANIFEST} is of another version of this software: build the engine with this image"
        ) from error


def _verify_file(engine: Path, file: FileEntry, sealed_at: int) -> None:
    """Every file's size; the content of small ones, and of those written to after the seal."""
    path = engine / file.path
    try:
        found = path.stat()
    except OSError as error:
        raise EngineMismatch(f"{path} is in the manifest but not there ({error.strerror}): {BUILD_AGAIN}") from error
    if found.st_size != file.bytes:
        raise EngineMismatch(f"{path} has {found.st_size} bytes, sealed were {file.bytes}: {BUILD_AGAIN}")
    suspect = found.st_size <= HASHED_BYTES_MAX or found.st_mtime_ns > sealed_at
    if suspect and _sha256(path) != file.sha256:
        raise EngineMismatch(f"{path} is not what was sealed, its sha256 differs: {BUILD_AGAIN}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
