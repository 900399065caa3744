"""Fetch a checkpoint into the store, verified on the way."""

import shutil

from nemotron_api.build import COMPLETE, MANIFEST, Manifest, WeightsRequest
from nemotron_api.errors import ChecksumMismatch, WeightsInvalid
from nemotron_build import provenance
from nemotron_build.checkpoint import inspect
from nemotron_build.digest import content, digest_of, hash_chunks, listing
from nemotron_build.progress import Log, report, size
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
    for name in (MANIFEST, COMPLETE):
        if name in sizes:
            raise WeightsInvalid(f"the checkpoint has a file named {name}, a name the store needs itself: rename it")
    total = sum(sizes.values())
    log(f"{request.uri}: {len(sizes)} files, {size(total)}, {checkpoint.parameters} parameters")
    partial = store.partial(request.fingerprint)
    left = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
    with store.draft("Weights", request.fingerprint, max(0, total - left)) as draft:
        files = source.fetch(draft, partial, report(log, "fetched", total))
        digest = digest_of(files)
        log(f"fetched and hashed {size(total)}: {digest}")
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
        made = store.seal(draft, manifest)
    shutil.rmtree(partial, ignore_errors=True)
    return made


def is_current(request: WeightsRequest, found: Sealed, access: Access, log: Log) -> bool:
    """Whether `found` is still what the request asks for.

    A request with a digest or a commit names its content. Another one asks for whatever is there, so that is hashed.
    """
    if request.digest is not None or request.uri.startswith("hf://"):
        return True
    return digest_of_source(open_source(request.uri, access), log) == found.manifest.digest


def digest_of_source(source: Source, log: Log) -> str:
    """What `WeightsRequest.digest` has to be for this source as it is now."""
    sizes = source.sizes()
    on_bytes = report(log, "hashed", sum(sizes.values()))
    return digest_of(hash_chunks(path, content(path, source.open(path)), on_bytes) for path in sizes)
