"""Render the pod that serves one revision."""

from typing import Any

from nemotron_api import names
from nemotron_api.deployment import NemotronDeployment, Placement, Resources
from nemotron_api.gpus import GPU_RESOURCE, GPUS, PRODUCT_LABEL
from nemotron_operator.objects import Manifest
from nemotron_operator.observed import ArtifactView
from nemotron_operator.resolve import Resolution
from nemotron_operator.resources.common import (
    CONTAINER_SECURITY,
    POD_SECURITY,
    SCRATCH_ENV,
    compact,
    env_list,
    labels,
    pod_placement,
    scratch_mounts,
    scratch_volumes,
    selector,
)
from nemotron_operator.resources.config_map import KEY
from nemotron_operator.settings import Settings

_EXIT_SECONDS = 20
"""What the server is given to end after the last stream."""
_LOST_NODE_SECONDS = 30
_SLOWEST_READ = 100_000_000
"""Bytes per second a pod is trusted to read from the store; slower storage meets the startup probe's limit."""


def build(deployment: NemotronDeployment, resolution: Resolution, engine: ArtifactView, settings: Settings) -> Manifest:
    """The pod template of `resolution.revision`, as restricted Pod Security wants it."""
    template: Manifest = compact(
        {
            "metadata": {"labels": labels(deployment, resolution.revision)},
            "spec": {
                **_placement(deployment, resolution, settings),
                "serviceAccountName": deployment.name,
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "securityContext": POD_SECURITY,
                "terminationGracePeriodSeconds": deployment.drain_seconds + _EXIT_SECONDS + 5,
                "containers": [_container(deployment, resolution, engine, settings)],
            },
        }
    )
    # An empty emptyDir is a value of its own, so volumes are not compacted.
    template["spec"]["volumes"] = _volumes(deployment, resolution)
    return template


def _container(
    deployment: NemotronDeployment, resolution: Resolution, engine: ArtifactView, settings: Settings
) -> dict[str, Any]:
    env = SCRATCH_ENV | {variable.name: variable.value for variable in deployment.runtime.env or ()}
    config = f"{names.CONFIG_MOUNT}/{KEY}"
    ports = {"grpc": names.GRPC_PORT, "metrics": names.METRICS_PORT, "health": names.HEALTH_PORT}
    return {
        "name": "server",
        "image": resolution.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["nemotron-serve", "--config", config, "--store", names.STORE_MOUNT, "--host", "0.0.0.0"],
        "env": env_list(env),
        "ports": [{"name": n, "containerPort": p} for n, p in ports.items()],
        "resources": resources(resolution.resources, deployment.gpus_per_replica),
        "startupProbe": _probe("/readyz", period=1, failures=120 + engine.bytes // _SLOWEST_READ),
        "readinessProbe": _probe("/readyz", period=2, failures=1),
        "livenessProbe": _probe("/livez", period=5, failures=3),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "store", "mountPath": names.STORE_MOUNT, "readOnly": True},
            {"name": "config", "mountPath": names.CONFIG_MOUNT, "readOnly": True},
            *scratch_mounts(),
        ],
    }


def resources(asked: Resources, gpus: int) -> dict[str, Any]:
    """Requests and limits; processors are not limited, for a throttled step stalls every stream."""
    gpu = {GPU_RESOURCE: str(gpus)} if gpus else {}
    return {
        "requests": {"cpu": asked.cpu, "memory": asked.memory} | gpu,
        "limits": {"memory": asked.memory} | gpu,
    }


def _placement(deployment: NemotronDeployment, resolution: Resolution, settings: Settings) -> dict[str, Any]:
    fields = pod_placement(deployment.placement, deployment.runtime, settings.image_pull_secrets)
    lost_node = [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _LOST_NODE_SECONDS}
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
    ]
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector(deployment)},
    }
    return fields | {
        "tolerations": [*fields["tolerations"], *lost_node],
        "topologySpreadConstraints": [spread],
        "affinity": _gpu_affinity(deployment.placement),
    }


def _gpu_affinity(placement: Placement) -> dict[str, Any] | None:
    if not placement.gpu:
        return None
    products = [product for sku in placement.gpu.skus for product in GPUS[sku].products]
    product = {"key": PRODUCT_LABEL, "operator": "In", "values": products}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [product]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def _volumes(deployment: NemotronDeployment, resolution: Resolution) -> list[dict[str, Any]]:
    config = f"{deployment.name}-{resolution.revision}"
    return [
        {"name": "store", "persistentVolumeClaim": {"claimName": deployment.claim, "readOnly": True}},
        {"name": "config", "configMap": {"name": config}},
        *scratch_volumes(),
    ]


def _probe(path: str, *, period: int, failures: int) -> dict[str, Any]:
    request = {"path": path, "port": "health"}
    return {"httpGet": request, "periodSeconds": period, "failureThreshold": failures, "timeoutSeconds": 3}
