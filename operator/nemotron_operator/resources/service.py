"""Build the two Services: one address for everybody, and the pods' own addresses for clients that balance."""

from nemotron_api import names
from nemotron_api.deployment import NemotronDeployment
from nemotron_operator.objects import SERVICE, Manifest
from nemotron_operator.resources.common import child, selector

# Not Triton's HTTP, which listens to its own pod alone: the server of 2024 crashes at a large form.
_PORTS = {"grpc": names.GRPC_PORT, "metrics": names.METRICS_PORT, "health": names.HEALTH_PORT}


def build(deployment: NemotronDeployment) -> Manifest:
    """`<nd>`: one virtual address over all routable replicas."""
    return child(deployment, SERVICE, deployment.name, spec=_spec(deployment))


def build_headless(deployment: NemotronDeployment) -> Manifest:
    """`<nd>-pods`: DNS answers with every routable replica, for `round_robin` in the client."""
    return child(deployment, SERVICE, f"{deployment.name}-pods", spec=_spec(deployment) | {"clusterIP": "None"})


def _spec(deployment: NemotronDeployment) -> Manifest:
    ports = [{"name": name, "port": port, "targetPort": name, "protocol": "TCP"} for name, port in _PORTS.items()]
    return {"type": "ClusterIP", "selector": selector(deployment), "ports": ports}
