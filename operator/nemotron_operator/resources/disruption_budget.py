"""Build the budget that keeps node drains from taking the last routable replicas."""

from nemotron_api.deployment import NemotronDeployment
from nemotron_operator.objects import PDB, Manifest
from nemotron_operator.resources.common import child, selector


def build(deployment: NemotronDeployment) -> Manifest | None:
    """The disruption budget, or nothing where one replica is all that is sure to be there: it would block drains."""
    fewest = deployment.spec.scaling.min if deployment.spec.scaling else deployment.spec.replicas
    if fewest < 2:
        return None
    spec = {
        "minAvailable": deployment.min_available,
        "selector": {"matchLabels": selector(deployment)},
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }
    return child(deployment, PDB, deployment.name, spec=spec)
