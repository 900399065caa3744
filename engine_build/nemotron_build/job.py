"""Do what a request asks for, or find that it is done already."""

import time
from pathlib import Path

from nemotron_api.build import EngineRequest, Limits, Precision, Success, WeightsRequest
from nemotron_build import weights
from nemotron_build.progress import Log, size
from nemotron_build.sealed import Sealed
from nemotron_build.source import Access, open_source
from nemotron_build.store import Store


def make(request: WeightsRequest | EngineRequest, store: Store, access: Access, log: Log) -> Sealed:
    """The sealed artifact: a former build's, if every byte of it is right and its source is the same, or a new one."""
    log(f"{request.kind} {request.fingerprint}")
    if found := store.recover(request.kind, request.fingerprint, log):
        if not isinstance(request, WeightsRequest) or weights.is_current(request, found, access, log):
            log(f"already in the store and intact: {size(found.manifest.total_bytes)}")
            return found
        log("the source has changed since: fetching it again")
        store.discard(request.kind, request.fingerprint)
    if isinstance(request, WeightsRequest):
        return weights.build(request, store, access, log)
    # Imports torch, which a Weights build never needs.
    from nemotron_build import engine

    return engine.build(request, store, log)


def run(request: WeightsRequest | EngineRequest, store: Store, access: Access, log: Log) -> Success:
    """`make`, told as the Job's termination message."""
    started = time.monotonic()
    made = make(request, store, access, log)
    return Success(
        fingerprint=made.manifest.fingerprint,
        manifest_sha256=made.manifest_sha256,
        digest=made.manifest.digest,
        bytes=made.manifest.total_bytes,
        seconds=round(time.monotonic() - started, 3),
        record=made.manifest.record,
    )


def make_engine(
    checkpoint: Path,
    store: Store,
    log: Log,
    *,
    model: str,
    precision: Precision = "BF16",
    limits: Limits | None = None,
) -> Sealed:
    """Weights and engine in one go from a directory of this machine: the same artifacts a deployment would get."""
    access = Access(files=True)
    uri = checkpoint.resolve().as_uri()
    digest = weights.digest_of_source(open_source(uri, access), log)
    fetched = make(WeightsRequest(uri=uri, digest=digest, store="local"), store, access, log)
    request = EngineRequest(
        model=model,
        weights=fetched.manifest.fingerprint,
        weights_digest=fetched.manifest.digest,
        precision=precision,
        limits=limits or Limits(),
        runtime="local",
        store="local",
    )
    return make(request, store, Access(), log)
