"""Solve what a spec leaves open, and name the revision it amounts to."""

from dataclasses import dataclass

from nemotron_api.artifact import name_of
from nemotron_api.build import EngineRequest, WeightsRequest
from nemotron_api.deployment import NemotronDeployment, Resources
from nemotron_api.record import sha256_of
from nemotron_operator.observed import Observed
from nemotron_operator.settings import Settings


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a deployment needs, and, once its engine can be named, the revision that would serve it."""

    image: str
    resources: Resources
    sku: str
    """The GPU the revision is bound to; empty for CPUs."""
    weights: WeightsRequest
    engine: EngineRequest | None
    """None until the weights' content is known."""
    revision: str
    """10 hex digits; empty until the engine is sealed."""

    @property
    def weights_name(self) -> str:
        return name_of("Weights", self.weights.fingerprint)

    @property
    def engine_name(self) -> str:
        return name_of("Engine", self.engine.fingerprint) if self.engine else ""


def resolve(deployment: NemotronDeployment, observed: Observed, settings: Settings) -> Resolution:
    """The resolution that an existing revision already stands for, else the one with the chart's image of today.

    A chart upgrade brings another default image. It must roll no pod, so the image of an existing revision is kept as
    long as the rest of the spec still amounts to that revision.
    """
    asked = deployment.runtime.image
    if asked:
        return _with_image(deployment, observed, settings, asked)
    for revision in sorted(observed.revisions, key=lambda r: -r.number):
        kept = _with_image(deployment, observed, settings, revision.image)
        if kept.revision == revision.name:
            return kept
    return _with_image(deployment, observed, settings, settings.runtime_image)


def _with_image(deployment: NemotronDeployment, observed: Observed, settings: Settings, image: str) -> Resolution:
    source = deployment.spec.model.source
    weights = WeightsRequest(uri=source.uri, digest=source.digest, store=deployment.claim)
    view = observed.artifacts.get(name_of("Weights", weights.fingerprint))
    digest = source.digest or (view.digest if view and view.ready else "")
    skus = deployment.placement.gpu.skus if deployment.placement.gpu else ("",)
    resources = deployment.runtime.resources or settings.resources
    engine = _engine(deployment, weights, digest, image) if digest else None
    sealed = observed.artifacts.get(name_of("Engine", engine.fingerprint)) if engine else None
    manifest = sealed.manifest_sha256 if sealed and sealed.ready else ""
    return Resolution(
        image=image,
        resources=resources,
        sku=skus[0],
        weights=weights,
        engine=engine,
        revision=_revision_name(deployment, manifest, image, skus[0]) if manifest else "",
    )


def _engine(deployment: NemotronDeployment, weights: WeightsRequest, digest: str, image: str) -> EngineRequest:
    return EngineRequest(
        model=deployment.spec.model.name,
        weights=weights.fingerprint,
        weights_digest=digest,
        target=deployment.target,
        precision=deployment.precision,
        limits=deployment.limits,
        runtime=image,
        store=deployment.claim,
    )


def _revision_name(deployment: NemotronDeployment, manifest_sha256: str, image: str, sku: str) -> str:
    """Hash of what makes pods differ: engine, runtime, placement. Replicas, scaling, rollout, disruption do not.

    An image the user named and the same one by default are two revisions: else taking `runtime.image` out of the spec
    again would find the revision it had named, and change nothing.
    """
    return sha256_of(
        {
            "engine": manifest_sha256,
            "image": image,
            "runtime": deployment.runtime.to_dict(),
            "placement": deployment.placement.to_dict(),
            "gpus": deployment.gpus_per_replica,
            "sku": sku,
        }
    )[:10]
