"""Give tests a real API server with the chart's objects, a running operator, and a namespace with pretended nodes."""

import itertools
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nemotron_devcluster.home import home
from nemotron_devcluster.tools import Tools
from nemotron_operator.objects import CONFIG_MAP
from nemotron_operator.settings import Settings
from tests.integration import control_plane
from tests.integration.control_plane import ControlPlane, Refusal
from tests.integration.operator_process import OperatorProcess
from tests.integration.operator_world import World
from tests.integration.pretend_node import PretendNode

CHART = Path(__file__).parents[2] / "charts" / "nemotron-operator"
SYSTEM = "nemotron-system"
RELEASE = "nemotron-operator"
_NAMES = (f"test-{i}" for i in itertools.count(1))


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with the chart installed; the operator's own Deployment waits for a node for ever."""
    with ExitStack() as stack:
        started = control_plane.start(tmp_path_factory.mktemp("control-plane"), stack)
        install_chart(started)
        yield started


def install_chart(plane: ControlPlane) -> None:
    tools = Tools(home())
    rendered = subprocess.run(
        [str(tools.path("helm")), "template", RELEASE, str(CHART), "--namespace", SYSTEM, "--no-hooks"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    admin = plane.kubeconfig("kubectl", user="kubectl", group="system:masters")
    kubectl = [str(tools.path("kubectl")), f"--kubeconfig={admin}"]
    subprocess.run([*kubectl, "create", "namespace", SYSTEM], check=True, capture_output=True)
    subprocess.run([*kubectl, "apply", "-f", "-"], input=rendered, text=True, check=True, capture_output=True)
    subprocess.run([*kubectl, "wait", "crd", "--all", "--for=condition=Established"], check=True, capture_output=True)


@pytest.fixture(scope="session")
def settings(plane: ControlPlane) -> Settings:
    """The chart's settings, in more of a hurry."""
    rendered = plane.admin.get(CONFIG_MAP, SYSTEM, RELEASE)["data"]["settings.json"]
    hurry = {"retry_base_seconds": 1.0, "metrics_interval_seconds": 0.5}
    return Settings.model_validate_json(rendered).model_copy(update=hurry)


@pytest.fixture(scope="session")
def operator(
    plane: ControlPlane, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """The operator with a token of the chart's ServiceAccount. A test that kills it starts it again."""
    kubeconfig = plane.token_kubeconfig(SYSTEM, RELEASE)
    process = OperatorProcess(tmp_path_factory.mktemp("operator"), kubeconfig, settings)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def world(plane: ControlPlane, operator: OperatorProcess) -> Iterator[World]:
    """A fresh namespace with pretended nodes, deleted afterwards."""
    namespace = next(_NAMES)
    plane.admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    with PretendNode(plane.admin, namespace) as node:
        here = World(plane, operator, node, namespace)
        here.until(lambda: _has_account(here), "the namespace's default ServiceAccount")
        yield here
        plane.admin.call("DELETE", f"/api/v1/namespaces/{namespace}")
    if not operator.is_running:
        operator.start()


def _has_account(here: World) -> bool:
    try:
        here.api.call("GET", f"/api/v1/namespaces/{here.namespace}/serviceaccounts/default")
    except Refusal:
        return False
    return True
