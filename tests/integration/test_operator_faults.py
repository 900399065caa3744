"""The operator killed at any moment, an API server that fails, a right that is missing: nothing lost, nothing twice."""

from collections import Counter
from pathlib import Path

import pytest

from nemotron_api import names
from nemotron_operator.objects import (
    CLAIM,
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    JOB,
    NA,
    ND,
    PDB,
    SERVICE,
    SERVICE_ACCOUNT,
)
from nemotron_operator.settings import Settings
from tests.integration.control_plane import ControlPlane
from tests.integration.faulty_proxy import FAULTS, FaultyProxy
from tests.integration.operator_process import OperatorProcess
from tests.integration.operator_world import World
from tests.integration.pretend_node import running_for_ever, sealed

pytestmark = pytest.mark.integration
pytest_plugins = ("tests.integration.operator_fixtures",)

NEW = {"runtime": {"image": "registry.test/backend:2"}}
KINDS = (CLAIM, CONFIG_MAP, CONTROLLER_REVISION, DEPLOYMENT, JOB, NA, PDB, SERVICE, SERVICE_ACCOUNT)


def uids(world: World) -> dict[str, set[str]]:
    """Every object of ours in the namespace, by kind."""
    return {
        kind.kind: {
            body["metadata"]["uid"]
            for body in world.api.list(kind, world.namespace)
            if names.MANAGED_BY in body["metadata"].get("labels", {})
        }
        for kind in KINDS
    }


def counts(world: World) -> dict[str, int]:
    return {kind: len(objects) for kind, objects in uids(world).items()}


ONE_OF_EACH = {
    "PersistentVolumeClaim": 1,
    "ConfigMap": 1,
    "ControllerRevision": 1,
    "Deployment": 1,
    "Job": 2,
    "NemotronArtifact": 2,
    "PodDisruptionBudget": 1,
    "Service": 2,
    "ServiceAccount": 1,
}


class TestKilled:
    def test_in_the_middle_of_a_build(self, world: World) -> None:
        world.node.jobs = running_for_ever
        world.deploy(replicas=2)
        world.until_condition("False/Fetching", names.WEIGHTS_READY)
        before = uids(world)
        world.operator.kill()
        world.node.jobs = sealed
        world.operator.start()
        world.until_ready()
        after = uids(world)
        assert all(before[kind] <= after[kind] for kind in before), "what was made stays the same object"
        assert counts(world) == ONE_OF_EACH

    def test_in_the_middle_of_a_rollout(self, world: World) -> None:
        world.deploy(replicas=2)
        world.until_ready()
        world.node.servers_start = False
        world.node.fewest_ready["nano"] = 1000
        world.change(NEW)
        world.until(lambda: len(world.servers()) == 4)
        before = uids(world)
        world.operator.kill()
        world.node.servers_start = True
        world.until(lambda: sum("podIP" in pod["status"] for pod in world.servers()) == 4)
        assert len(world.api.list(DEPLOYMENT, world.namespace)) == 2, "nothing goes while nobody looks"
        world.operator.start()
        world.until_ready()
        world.until_settled("nano")
        assert uids(world)["Deployment"] < before["Deployment"]
        assert world.node.fewest_ready["nano"] >= 2

    def test_while_the_spec_changes_and_children_go(self, world: World) -> None:
        world.deploy(replicas=2)
        world.until_ready()
        world.operator.kill()
        world.change({"replicas": 3})
        world.api.delete(SERVICE, world.namespace, "nano")
        world.operator.start()
        world.until(lambda: world.api.find(SERVICE, world.namespace, "nano"))
        world.until(lambda: world.status()["routableReplicas"] == 3)
        world.until_ready()

    def test_while_its_deployment_is_deleted(self, world: World) -> None:
        world.node.jobs = running_for_ever
        world.deploy()
        world.until_condition("False/Fetching", names.WEIGHTS_READY)
        world.operator.kill()
        world.api.delete(ND, world.namespace, "nano")
        world.until(lambda: not world.api.list(ND, world.namespace), "no finalizer holds it")
        world.operator.start()
        world.until(lambda: not world.api.list(NA, world.namespace), "the unfinished artifact goes")

    def test_again_and_again(self, world: World) -> None:
        world.deploy(replicas=2)
        for _ in range(4):
            world.operator.kill()
            world.operator.start()
        world.until_ready()
        world.until_settled("nano")
        assert counts(world) == ONE_OF_EACH


def test_an_api_server_that_fails_in_every_way_delays_and_spoils_nothing(
    world: World, plane: ControlPlane, settings: Settings, operator: OperatorProcess, tmp_path: Path
) -> None:
    operator.stop()
    with FaultyProxy(plane) as proxy:
        kubeconfig = proxy.kubeconfig(operator.kubeconfig, tmp_path / "faulty.conf")
        proxy.faulty = False  # a process that cannot even start is the kubelet's affair
        unlucky = OperatorProcess(tmp_path, kubeconfig, settings)
        unlucky.start()
        world.operator = unlucky
        try:
            proxy.faulty = True
            world.deploy(replicas=2)
            world.deploy("second", scaling={"min": 1, "max": 2})
            world.until_ready()
            world.until_ready("second")
            world.change(NEW)
            world.until_ready()
            world.until(lambda: len(world.api.list(DEPLOYMENT, world.namespace)) == 2, "the old revision goes")
            assert unlucky.is_healthy()
        finally:
            unlucky.kill()
    assert set(proxy.dealt) == set(FAULTS), proxy.dealt
    assert counts(world)["NemotronArtifact"] == 3, "one of weights, an engine for each image"
    assert counts(world)["Job"] == 3
    assert counts(world)["Service"] == 4


def test_the_charts_rights_suffice_and_the_operator_asks_for_no_other(world: World, plane: ControlPlane) -> None:
    """Whatever the tests before this one did is in the log too."""
    world.deploy(replicas=2)
    world.until_ready()
    world.change({"replicas": 1})
    world.until(lambda: not world.api.list(PDB, world.namespace))
    world.api.delete(ND, world.namespace, "nano")
    world.until(lambda: not world.servers())
    account = "system:serviceaccount:nemotron-system:nemotron-operator"
    asked = [entry for entry in plane.audit() if entry["user"]["username"] == account]
    assert len(asked) > 50
    refused = [
        (entry["verb"], entry["requestURI"], entry["responseStatus"].get("reason"))
        for entry in asked
        if entry.get("responseStatus", {}).get("code") == 403 and "because it is being terminated" not in str(entry)
    ]
    assert refused == []
    assert not [entry for entry in asked if entry.get("objectRef", {}).get("resource") == "secrets"]


def test_an_api_server_that_goes_away_is_waited_for(world: World) -> None:
    """A restart of the API server breaks every watch; what happened meanwhile is seen afterwards."""
    world.deploy()
    world.until_ready()
    world.until_settled("nano")
    before = len(world.writes())
    world.plane.restart_api_server()
    world.api.delete(SERVICE, world.namespace, "nano")
    world.until(lambda: world.api.find(SERVICE, world.namespace, "nano"), "the Service comes back")
    world.until_ready()
    again = Counter(write for write in world.writes()[before:] if "/status" not in write)
    assert again == {"patch services nano": 1}
