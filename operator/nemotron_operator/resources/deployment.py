"""Build the Deployment of one revision from its kept template."""

from nemotron_api.deployment import NemotronDeployment
from nemotron_operator.objects import DEPLOYMENT, Manifest
from nemotron_operator.observed import Revision
from nemotron_operator.resources.common import child, labels


def build(deployment: NemotronDeployment, revision: Revision, replicas: int) -> Manifest:
    """`<nd>-<revision>` with `replicas` pods; its template never changes, a new one is a new revision."""
    spec = {
        "replicas": replicas,
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": deployment.progress_deadline_seconds,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": labels(deployment, revision.name)},
        "template": revision.data["template"],
    }
    return child(deployment, DEPLOYMENT, f"{deployment.name}-{revision.name}", revision.name, spec=spec)
