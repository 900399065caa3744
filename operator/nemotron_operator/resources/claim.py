"""Build the claim that keeps a namespace's weights and engines."""

from nemotron_api import names
from nemotron_api.deployment import NemotronDeployment
from nemotron_operator.objects import CLAIM, Manifest


def build(deployment: NemotronDeployment) -> Manifest | None:
    """The namespace's store, or nothing where the spec names an existing claim. Nobody owns it: it outlives all."""
    if not deployment.makes_claim:
        return None
    cache = deployment.spec.cache
    spec = {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": (cache and cache.size) or "100Gi"}},
        **({"storageClassName": cache.storage_class_name} if cache and cache.storage_class_name else {}),
    }
    meta = {
        "name": deployment.claim,
        "namespace": deployment.namespace,
        "labels": {names.MANAGED_BY: names.FIELD_MANAGER},
    }
    return {"apiVersion": CLAIM.api_version, "kind": CLAIM.kind, "metadata": meta, "spec": spec}
