"""Build an engine from weights that the store already holds."""

from nemotron_api.build import EngineRequest, Manifest
from nemotron_api.errors import ChecksumMismatch
from nemotron_build import provenance, sealed
from nemotron_build.checkpoint import inspect
from nemotron_build.digest import digest_of, hash_tree
from nemotron_build.folder import Folder
from nemotron_build.progress import Log, size
from nemotron_build.sealed import Sealed
from nemotron_build.store import Store
from nemotron_build.targets import torch

TARGETS = {"Torch": torch}


def build(request: EngineRequest, store: Store, log: Log) -> Sealed:
    """The sealed Engine artifact of this request.

    Every byte of the weights is verified first: an engine made from rotten weights would stay. Raises SourceNotFound
    when they are not in the store, ChecksumMismatch, the errors of `inspect`, of `Store.draft` and of the target.
    """
    weights = store.open("Weights", request.weights)
    if weights.manifest.digest != request.weights_digest:
        raise ChecksumMismatch(
            f"the store's weights have digest {weights.manifest.digest}, the engine needs {request.weights_digest}: "
            "fetch the weights again"
        )
    sealed.verify(weights, log)
    log(f"verified {size(weights.manifest.total_bytes)} of weights")
    checkpoint = inspect(Folder(weights.directory, boundary=weights.directory))
    target = TARGETS[request.target]
    target.check(checkpoint)
    with store.draft("Engine", request.fingerprint, target.needed_bytes(request, checkpoint)) as draft:
        record = target.build(request, weights.directory, draft, log)
        files = hash_tree(draft)
        manifest = Manifest(
            kind="Engine",
            fingerprint=request.fingerprint,
            request=request.to_dict(),
            digest=digest_of(files),
            files=files,
            versions=provenance.versions(),
            host=provenance.host(),
            record=record,
        )
        return store.seal(draft, manifest)
