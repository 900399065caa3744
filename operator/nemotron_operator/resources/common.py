"""Share what every manifest of ours carries: labels, owner, and a pod that fits restricted Pod Security."""

from collections.abc import Mapping
from typing import Any

from nemotron_api import names
from nemotron_api.artifact import NemotronArtifact
from nemotron_api.deployment import NemotronDeployment, Placement, Runtime
from nemotron_operator.objects import Kind, Manifest

UID = 65532

CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}

POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": UID,
    "runAsGroup": UID,
    "fsGroup": UID,
    # The store may hold terabytes: change ownership only where the root of the volume is not ours yet.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}

# The root file system is read-only, so what libraries write by habit goes to /tmp.
SCRATCH_ENV = {"HOME": "/tmp", "TMPDIR": "/tmp", "TRITON_CACHE_DIR": "/tmp/triton"}


def compact(value: Any) -> Any:
    """Without None and empty values: the API server drops them, so a comparison would never be satisfied."""
    if isinstance(value, Mapping):
        kept = {key: compact(child) for key, child in value.items()}
        return {key: child for key, child in kept.items() if child not in (None, {}, [], ())}
    if isinstance(value, list | tuple):
        return [compact(child) for child in value]
    return value


def selector(deployment: NemotronDeployment) -> dict[str, str]:
    """Labels of every serving pod, whatever its revision: what Services and the disruption budget select."""
    return {names.NAME_LABEL: deployment.name, names.COMPONENT_LABEL: names.SERVER}


def labels(deployment: NemotronDeployment, revision: str = "") -> dict[str, str]:
    """Labels of every child; those of one revision carry its name too."""
    of_revision = {names.REVISION_LABEL: revision} if revision else {}
    return {names.MANAGED_BY: names.FIELD_MANAGER, **selector(deployment), **of_revision}


def child(deployment: NemotronDeployment, kind: Kind, name: str, of: str = "", **body: Any) -> Manifest:
    """A manifest the deployment owns; `of` names the revision it belongs to."""
    owner = _owner(names.DEPLOYMENT_KIND, deployment.name, deployment.uid)
    meta = {"name": name, "namespace": deployment.namespace, "labels": labels(deployment, of), **owner}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **body}


def artifact_child(artifact: NemotronArtifact, kind: Kind, name: str, **body: Any) -> Manifest:
    """A manifest the artifact owns."""
    owner = _owner(names.ARTIFACT_KIND, artifact.name, artifact.uid)
    meta = {"name": name, "namespace": artifact.namespace, "labels": artifact_labels(artifact), **owner}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, **body}


def artifact_labels(artifact: NemotronArtifact) -> dict[str, str]:
    return {
        names.MANAGED_BY: names.FIELD_MANAGER,
        names.ARTIFACT_LABEL: artifact.name,
        names.COMPONENT_LABEL: names.BUILDER,
    }


def _owner(kind: str, name: str, uid: str) -> dict[str, Any]:
    reference = {"apiVersion": names.API_VERSION, "kind": kind, "name": name, "uid": uid, "controller": True}
    return {"ownerReferences": [reference]}


def pod_placement(placement: Placement, runtime: Runtime, pull_secrets: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a pod spec that say where it runs and how its image is pulled."""
    # One entry per name: server-side apply refuses a list that names a key twice.
    secrets = dict.fromkeys([*pull_secrets, *(s.name for s in runtime.image_pull_secrets or ())])
    return {
        "runtimeClassName": placement.runtime_class_name,
        "nodeSelector": placement.node_selector,
        "tolerations": [_said(t.to_dict()) for t in placement.tolerations or ()],
        "priorityClassName": placement.priority_class_name,
        "imagePullSecrets": [{"name": name} for name in secrets],
    }


_SHARED_MEMORY = "512Mi"
"""Of all requests on their way into the model's process: what does not fit is refused, and cannot starve the pod."""


def scratch_volumes() -> list[dict[str, Any]]:
    shared = {"medium": "Memory", "sizeLimit": _SHARED_MEMORY}
    return [{"name": "tmp", "emptyDir": {}}, {"name": "shm", "emptyDir": shared}]


def scratch_mounts() -> list[dict[str, Any]]:
    return [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}]


def env_list(env: Mapping[str, str]) -> list[dict[str, str]]:
    return [_said({"name": name, "value": value}) for name, value in env.items()]


def _said(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without empty texts: the API server does not store them, so a comparison would never be satisfied."""
    return {name: value for name, value in fields.items() if value != ""}
