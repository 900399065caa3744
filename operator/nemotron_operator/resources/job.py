"""Turn a NemotronArtifact into the Job that makes it."""

from typing import Any

from nemotron_api import names
from nemotron_api.artifact import NemotronArtifact
from nemotron_operator.objects import JOB, Manifest
from nemotron_operator.resources.common import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    SCRATCH_ENV,
    artifact_child,
    artifact_labels,
    compact,
    env_list,
    pod_placement,
    scratch_mounts,
    scratch_volumes,
)
from nemotron_operator.resources.pod_template import resources
from nemotron_operator.settings import Settings

_DEADLINE_SECONDS = 6 * 3600
_KEPT_SECONDS = 24 * 3600


def build(artifact: NemotronArtifact, attempt: int, settings: Settings) -> Manifest:
    """`<na>-<attempt>`: one pod, tried once; the next attempt is another Job, so that each keeps its log."""
    pod: Manifest = compact(
        {
            **pod_placement(artifact.spec.placement, artifact.spec.runtime, settings.image_pull_secrets),
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": POD_SECURITY,
            "containers": [_container(artifact, settings)],
        }
    )
    pod["volumes"] = _volumes(artifact)
    spec = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": _DEADLINE_SECONDS,
        "ttlSecondsAfterFinished": _KEPT_SECONDS,
        "template": {"metadata": {"labels": artifact_labels(artifact)}, "spec": pod},
    }
    return artifact_child(artifact, JOB, f"{artifact.name}-{attempt}", spec=spec)


def _container(artifact: NemotronArtifact, settings: Settings) -> dict[str, Any]:
    request = artifact.request.to_json()
    source = ["--source-mount", names.SOURCE_MOUNT] if artifact.source_claim else []
    secret, endpoint = artifact.spec.secret_ref, artifact.spec.endpoint
    asked = artifact.spec.runtime.resources or settings.resources
    return {
        "name": "builder",
        "image": artifact.spec.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["nemotron-build", "run", "--request", request, "--store-root", names.STORE_MOUNT, *source],
        "env": env_list({**SCRATCH_ENV, **({"HF_ENDPOINT": endpoint} if endpoint else {})}),
        "envFrom": [{"secretRef": {"name": secret.name}}] if secret else [],
        "resources": resources(asked, 0),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "store", "mountPath": names.STORE_MOUNT},
            *_source_mounts(artifact),
            *scratch_mounts(),
        ],
    }


def _source_mounts(artifact: NemotronArtifact) -> list[dict[str, Any]]:
    if not artifact.source_claim:
        return []
    return [{"name": _source_volume(artifact), "mountPath": names.SOURCE_MOUNT, "readOnly": True}]


def _source_volume(artifact: NemotronArtifact) -> str:
    """A claim is mounted once: the kubelet would mount it read-only for both volumes if one of them asked for that."""
    return "store" if artifact.source_claim == artifact.spec.claim_name else "source"


def _volumes(artifact: NemotronArtifact) -> list[dict[str, Any]]:
    claims = {"store": artifact.spec.claim_name}
    if artifact.source_claim:
        claims.setdefault(_source_volume(artifact), artifact.source_claim)
    mounted = [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, claim in claims.items()]
    return [*mounted, *scratch_volumes()]
