"""Copy a checkpoint into the store, verified on the way."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from nemotron_api.build import COMPLETE, MANIFEST, FileEntry, Manifest, WeightsRequest
from nemotron_api.errors import ChecksumMismatch, SourceError, WeightsInvalid
from nemotron_build import provenance
from nemotron_build.checkpoint import inspect
from nemotron_build.digest import SUMS, chunks, digest_of, hash_chunks, listing, parse_sums
from nemotron_build.progress import Log, OnBytes, report, size
from nemotron_build.sealed import Sealed
from nemotron_build.source import Access, Source, open_source
from nemotron_build.store import Store


def build(request: WeightsRequest, store: Store, access: Access, log: Log) -> Sealed:
    """The sealed Weights artifact of this request.

    What can be known without reading the data (config.json, headers, sizes, free space) is checked before the first
    byte is copied. Raises the errors of `open_source`, `inspect`, `fetch` and `Store.draft`.
    """
    source = open_source(request.uri, access)
    checkpoint = inspect(source)
    sizes = source.sizes()
    total = sum(sizes.values())
    log(f"{request.uri}: {len(sizes)} files, {size(total)}, {checkpoint.parameters} parameters")
    with store.draft("Weights", request.fingerprint, total) as draft:
        files = fetch(source, draft, report(log, "copied", total))
        digest = digest_of(files)
        log(f"copied and hashed {size(total)}: {digest}")
        if request.digest not in (None, digest):
            log(listing(files))
            raise ChecksumMismatch(
                f"the checkpoint at {request.uri} has digest {digest}, the spec says {request.digest}: "
                "correct the spec, or copy the checkpoint again (the log lists every file's sha256)"
            )
        manifest = Manifest(
            kind="Weights",
            fingerprint=request.fingerprint,
            request=request.to_dict(),
            digest=digest,
            files=files,
            versions=provenance.versions(),
            host=provenance.host(),
            record={"parameters": checkpoint.parameters, "layers": checkpoint.config.pattern},
        )
        return store.seal(draft, manifest)


def is_current(request: WeightsRequest, found: Sealed, access: Access, log: Log) -> bool:
    """Whether `found` is still what the request asks for.

    A request with a digest names its content. One without asks for whatever is there, so what is there is hashed.
    """
    if request.digest is not None:
        return True
    return digest_of_source(open_source(request.uri, access), log) == found.manifest.digest


def digest_of_source(source: Source, log: Log) -> str:
    """What `WeightsRequest.digest` has to be for this source as it is now."""
    sizes = source.sizes()
    on_bytes = report(log, "hashed", sum(sizes.values()))
    return digest_of(hash_chunks(path, _read(source, path), on_bytes) for path in sizes)


def fetch(source: Source, into: Path, on_bytes: OnBytes) -> tuple[FileEntry, ...]:
    """Copy every file of the source, checking each against SHA256SUMS where the source has one.

    Raises ChecksumMismatch or SourceError naming the file.
    """
    sizes = source.sizes()
    sums = _sums(source, sizes)
    for name in (MANIFEST, COMPLETE):
        if name in sizes:
            raise WeightsInvalid(f"the checkpoint has a file named {name}, a name the store needs itself: rename it")
    files = []
    for path, expected_bytes in sizes.items():
        file = _copy(source, path, into, on_bytes)
        if file.bytes != expected_bytes:
            raise SourceError(f"{path} had {expected_bytes} bytes and then {file.bytes}: it changes while it is read")
        if sums is not None and file.sha256 != sums[path]:
            raise ChecksumMismatch(f"{path} has sha256 {file.sha256}, {SUMS} says {sums[path]}: copy it again")
        files.append(file)
    return tuple(files)


def _sums(source: Source, sizes: Mapping[str, int]) -> Mapping[str, str] | None:
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


def _copy(source: Source, path: str, into: Path, on_bytes: OnBytes) -> FileEntry:
    target = into / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        return hash_chunks(path, _written(_read(source, path), file), on_bytes)


def _written(content: Iterable[bytes], file: BinaryIO) -> Iterator[bytes]:
    """`content`, each chunk once it is in `file`."""
    for chunk in content:
        file.write(chunk)
        yield chunk


def _read(source: Source, path: str) -> Iterator[bytes]:
    with source.open(path) as stream:
        try:
            yield from chunks(stream)
        except OSError as error:
            raise SourceError(f"{path} cannot be read to its end: {error.strerror}") from error
