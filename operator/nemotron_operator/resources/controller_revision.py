"""Build the ControllerRevision that keeps what a revision was rendered to."""

from typing import Any

from nemotron_api.build import ServingConfig
from nemotron_api.deployment import NemotronDeployment
from nemotron_operator.objects import CONTROLLER_REVISION, Manifest
from nemotron_operator.observed import ArtifactView, Revision
from nemotron_operator.resolve import Resolution
from nemotron_operator.resources import pod_template
from nemotron_operator.resources.common import child
from nemotron_operator.settings import Settings


def render(
    deployment: NemotronDeployment, resolution: Resolution, engine: ArtifactView, number: int, settings: Settings
) -> Revision:
    """Render a revision for the first and last time."""
    assert resolution.engine
    config = ServingConfig(
        model=deployment.spec.model.name,
        engine=f"engines/{resolution.engine.fingerprint}",
        manifest_sha256=engine.manifest_sha256,
        drain_seconds=deployment.drain_seconds,
        connection_age_seconds=settings.connection_age_seconds,
    )
    data: dict[str, Any] = {
        "image": resolution.image,
        "config": config.to_json(),
        "template": pod_template.build(deployment, resolution, engine, settings),
    }
    return Revision(resolution.revision, number, resolution.image, data)


def build(deployment: NemotronDeployment, revision: Revision) -> Manifest:
    name = f"{deployment.name}-{revision.name}"
    return child(
        deployment, CONTROLLER_REVISION, name, revision.name, revision=revision.number, data=dict(revision.data)
    )
