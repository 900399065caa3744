"""Build the identity serving pods run under; it may do nothing."""

from nemotron_api.deployment import NemotronDeployment
from nemotron_operator.objects import SERVICE_ACCOUNT, Manifest
from nemotron_operator.resources.common import child


def build(deployment: NemotronDeployment) -> Manifest:
    return child(deployment, SERVICE_ACCOUNT, deployment.name, automountServiceAccountToken=False)
