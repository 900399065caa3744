"""Refer to Kubernetes objects and compare manifests, without touching a cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from nemotron_api import names
from nemotron_api.record import sha256_of

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object as the REST API addresses it."""

    api_version: str
    kind: str
    plural: str

    @property
    def base(self) -> str:
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"

    def path(self, namespace: str, name: str = "") -> str:
        return f"{self.base}/namespaces/{namespace}/{self.plural}" + (f"/{name}" if name else "")


DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
CONTROLLER_REVISION = Kind("apps/v1", "ControllerRevision", "controllerrevisions")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
POD = Kind("v1", "Pod", "pods")
PDB = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
JOB = Kind("batch/v1", "Job", "jobs")
ND = Kind(names.API_VERSION, names.DEPLOYMENT_KIND, names.DEPLOYMENT_PLURAL)
NA = Kind(names.API_VERSION, names.ARTIFACT_KIND, names.ARTIFACT_PLURAL)

CHILDREN = (SERVICE_ACCOUNT, CONFIG_MAP, CONTROLLER_REVISION, DEPLOYMENT, SERVICE, PDB, JOB)
"""Kinds the operator makes and labels as its own."""
KINDS = {kind.kind: kind for kind in (*CHILDREN, CLAIM, POD, ND, NA)}


@dataclass(frozen=True, slots=True, order=True)
class Ref:
    """Names one object."""

    kind: str
    namespace: str
    name: str

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> "Ref":
        meta = manifest["metadata"]
        return cls(manifest["kind"], meta["namespace"], meta["name"])

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def with_hash(manifest: Manifest) -> Manifest:
    """The manifest carrying the hash of itself, to be compared with what a live object carries."""
    meta = manifest["metadata"]
    annotations = {**meta.get("annotations", {}), names.APPLIED_HASH: sha256_of(manifest)[:16]}
    return {**manifest, "metadata": {**meta, "annotations": annotations}}


_QUANTITIES = frozenset({"requests", "limits"})
"""Fields whose values are quantities: `1` and `1000m` are the same."""
_WHOLE = frozenset({"selector", "labelSelector", "matchLabels", "nodeSelector"})
"""Maps that server-side apply replaces as one: an entry that somebody added changes what they mean."""
_MERGED = {
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "ownerReferences": "uid",
    "ports": "name",
    "topologySpreadConstraints": "topologyKey",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""Lists that server-side apply merges by a key: items that others added stay, and are theirs."""


def is_satisfied(desired: Any, live: Any, field: str = "") -> bool:
    """Whether every field of `desired` stands in `live` with the same meaning.

    Args:
        field: name of the field that holds the two values; it decides how they are compared.
    """
    if isinstance(desired, Mapping):
        if not isinstance(live, Mapping):
            return False
        if field in _WHOLE and desired.keys() != live.keys():
            return False
        same = _same_quantity if field in _QUANTITIES else is_satisfied
        return all(key in live and same(value, live[key], key) for key, value in desired.items())
    if isinstance(desired, list | tuple):
        if not isinstance(live, list | tuple):
            return False
        if field in _MERGED:
            return _is_within(desired, live, _MERGED[field])
        return len(desired) == len(live) and all(is_satisfied(d, v) for d, v in zip(desired, live, strict=True))
    return bool(desired == live)


def _is_within(desired: Sequence[Any], live: Sequence[Any], key: str) -> bool:
    there = {item.get(key): item for item in live}
    return all(item.get(key) in there and is_satisfied(item, there[item.get(key)]) for item in desired)


def _same_quantity(desired: Any, live: Any, _field: str) -> bool:
    try:
        return bool(parse_quantity(desired) == parse_quantity(live))
    except (ValueError, TypeError):
        return False
