"""Build the NemotronArtifacts a deployment needs."""

from nemotron_api import names
from nemotron_api.artifact import ArtifactSpec
from nemotron_api.deployment import NemotronDeployment
from nemotron_operator.objects import NA, Manifest
from nemotron_operator.resolve import Resolution


def build_weights(deployment: NemotronDeployment, resolution: Resolution) -> Manifest:
    return _manifest(deployment, resolution.weights_name, _weights(deployment, resolution))


def build_engine(deployment: NemotronDeployment, resolution: Resolution) -> Manifest:
    return _manifest(deployment, resolution.engine_name, _engine(deployment, resolution))


def specs(deployment: NemotronDeployment, resolution: Resolution) -> tuple[ArtifactSpec, ...]:
    """Every artifact the deployment needs, as far as it can be named."""
    weights = _weights(deployment, resolution)
    return (weights, _engine(deployment, resolution)) if resolution.engine else (weights,)


def _weights(deployment: NemotronDeployment, resolution: Resolution) -> ArtifactSpec:
    return ArtifactSpec(
        kind="Weights",
        fingerprint=resolution.weights.fingerprint,
        claim_name=deployment.claim,
        weights=resolution.weights,
        image=resolution.image,
        runtime=deployment.runtime,
        placement=deployment.placement,
        secret_ref=deployment.spec.model.source.secret_ref,
        endpoint=deployment.spec.model.source.endpoint,
    )


def _engine(deployment: NemotronDeployment, resolution: Resolution) -> ArtifactSpec:
    assert resolution.engine
    return ArtifactSpec(
        kind="Engine",
        fingerprint=resolution.engine.fingerprint,
        claim_name=deployment.claim,
        engine=resolution.engine,
        image=resolution.image,
        runtime=deployment.runtime,
        placement=deployment.placement,
    )


def _manifest(deployment: NemotronDeployment, name: str, spec: ArtifactSpec) -> Manifest:
    """Without an owner: artifacts are shared by every deployment of the namespace that names the same inputs."""
    meta = {"name": name, "namespace": deployment.namespace, "labels": {names.MANAGED_BY: names.FIELD_MANAGER}}
    return {"apiVersion": NA.api_version, "kind": NA.kind, "metadata": meta, "spec": spec.to_dict()}
