"""Build the ConfigMap that tells a revision's pods what to serve."""

from nemotron_api.deployment import NemotronDeployment
from nemotron_operator.objects import CONFIG_MAP, Manifest
from nemotron_operator.observed import Revision
from nemotron_operator.resources.common import child

KEY = "serving.json"


def build(deployment: NemotronDeployment, revision: Revision) -> Manifest:
    name = f"{deployment.name}-{revision.name}"
    return child(deployment, CONFIG_MAP, name, revision.name, immutable=True, data={KEY: revision.data["config"]})
