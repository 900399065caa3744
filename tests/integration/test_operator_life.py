"""From applied to Ready and to the end, against a real API server, and how many writes that takes."""

import time
from collections import Counter
from functools import partial

import pytest

from nemotron_api import names
from nemotron_operator.objects import DEPLOYMENT, JOB, NA, ND, PDB, POD, SERVICE
from tests.integration.operator_world import World
from tests.integration.pretend_node import running_for_ever

pytestmark = pytest.mark.integration
pytest_plugins = ("tests.integration.operator_fixtures",)

CHILDREN = 6
"""ServiceAccount, two Services, ControllerRevision, ConfigMap, Deployment; a budget is one more."""
CLAIM = 1
PER_ARTIFACT = 2
"""The artifact and its Job."""


def counted(world: World) -> Counter[str]:
    return Counter(write.rsplit(" ", 1)[0] for write in world.writes())


class TestBecomingReady:
    def test_a_deployment_becomes_ready_and_says_what_serves(self, world: World) -> None:
        world.deploy()
        world.until_ready()
        status = world.status()
        assert status["routableReplicas"] == 1
        assert status["servingRevision"] == status["revision"]
        assert status["url"] == f"dns:///nano-pods.{world.namespace}.svc:8001"
        assert status["resolved"]["precision"] == "BF16"
        assert status["selector"] == f"{names.NAME_LABEL}=nano,{names.COMPONENT_LABEL}=server"
        assert world.node.questions >= 1, "a token was asked for"

    def test_ready_waits_for_a_token_through_the_service(self, world: World) -> None:
        world.node.answers = False
        world.deploy()
        world.until_condition("False/NotRoutable")
        assert "503" in world.message()
        world.node.answers = True
        world.until_ready()

    def test_each_stage_is_told_while_it_lasts(self, world: World) -> None:
        world.node.jobs = running_for_ever
        world.deploy()
        world.until_condition("False/Fetching", names.WEIGHTS_READY)
        assert world.condition(names.ENGINE_READY) == "False/WaitingForWeights"
        assert world.condition(names.AVAILABLE) == "False/WaitingForEngine"
        assert world.api.list(DEPLOYMENT, world.namespace) == []


class TestWrites:
    def test_building_everything_takes_one_write_per_object_and_one_per_stage(self, world: World) -> None:
        world.deploy()
        world.until_ready()
        world.until_settled("nano")
        seen = counted(world)
        reported = seen.pop("patch nemotrondeployments/status")
        assert sum(seen.values()) == CHILDREN + CLAIM + 2 * PER_ARTIFACT, seen
        # The first answer, the four stages at most, and progress within one if it took more than ten seconds.
        assert reported <= 2 + 4

    def test_with_the_artifacts_there_it_takes_the_children_and_two(self, world: World) -> None:
        world.deploy()
        world.until_ready()
        world.until_settled("nano")
        before = len(world.writes())
        world.deploy("second")
        world.until_ready("second")
        world.until_settled("nano", "second")
        assert len(world.writes()) - before <= CHILDREN + 2, world.writes()[before:]

    def test_events_that_change_nothing_write_nothing(self, world: World) -> None:
        world.deploy(replicas=2)
        world.until_ready()
        world.until_settled("nano")
        before = len(world.writes())
        world.api.patch(ND, world.namespace, "nano", {"metadata": {"labels": {"team": "blue"}}})
        world.api.patch(SERVICE, world.namespace, "nano", {"metadata": {"annotations": {"seen": "yes"}}})
        (workload,) = world.api.list(DEPLOYMENT, world.namespace)
        name = workload["metadata"]["name"]
        world.api.patch(DEPLOYMENT, world.namespace, name, {"metadata": {"annotations": {"a": "b"}}})
        for pod in world.servers():
            world.api.patch(POD, world.namespace, pod["metadata"]["name"], {"status": {"message": "churn"}}, "status")
        world.until_settled("nano")
        assert world.writes()[before:] == []

    def test_a_restart_of_the_operator_writes_nothing(self, world: World) -> None:
        resources = {"cpu": "1000m", "memory": "1024Mi"}
        world.deploy(replicas=2, runtime={"env": [{"name": "EMPTY"}], "resources": resources})
        world.deploy("scaled", scaling={"min": 1, "max": 3})
        world.until_ready()
        world.until_condition("True/Steady", names.SCALING_ACTIVE, "scaled")
        world.until_settled("nano", "scaled")
        before, asked = len(world.writes()), world.node.questions
        assert world.operator.stop() == 0
        world.operator.start()
        time.sleep(3)
        world.until_settled("nano")
        assert world.writes()[before:] == []
        assert world.node.questions == asked, "what was proven need not be proven again"

    def test_progress_is_written_once_in_ten_seconds(self, world: World) -> None:
        world.deploy()
        world.until_ready()
        world.until_settled("nano")
        before, began = len(world.writes()), time.monotonic()
        for replicas in (2, 1, 3, 1, 2, 1, 3, 2):
            world.change({"replicas": replicas})
            world.until(partial(self.has_servers, world, replicas))
        seconds = time.monotonic() - began
        reported = [write for write in world.writes()[before:] if "/status" in write]
        # Each generation is answered at once, the rest is progress.
        assert len(reported) <= 8 + 1 + seconds / 10

    def has_servers(self, world: World, replicas: int) -> bool:
        return len(world.servers()) == replicas


class TestScale:
    def test_the_scale_subresource_moves_the_replicas(self, world: World) -> None:
        world.deploy()
        world.until_ready()
        scale = world.api.call("GET", ND.path(world.namespace, "nano") + "/scale")
        assert scale["status"]["selector"] == world.status()["selector"]
        scale["spec"]["replicas"] = 3
        world.api.call("PUT", ND.path(world.namespace, "nano") + "/scale", scale)
        world.until(lambda: world.status().get("routableReplicas") == 3)
        assert world.condition() == "True/Serving"
        world.until(lambda: len(world.api.list(PDB, world.namespace)) == 1, "a budget for three")
        scale = world.api.call("GET", ND.path(world.namespace, "nano") + "/scale")
        assert scale["status"]["replicas"] == 3

    def test_to_zero_and_back(self, world: World) -> None:
        world.deploy(replicas=2)
        world.until_ready()
        world.change({"replicas": 0})
        world.until_condition("False/ScaledToZero")
        world.until_condition("False/Complete", names.PROGRESSING)
        world.until(lambda: not world.servers())
        world.until(lambda: not world.api.list(PDB, world.namespace), "no budget for none")
        world.change({"replicas": 1})
        world.until_ready()


class TestEnd:
    def test_deleted_while_building_takes_the_unfinished_artifact_along(self, world: World) -> None:
        world.node.jobs = running_for_ever
        world.deploy()
        world.until_condition("False/Fetching", names.WEIGHTS_READY)
        world.api.delete(ND, world.namespace, "nano")
        world.until(lambda: not world.api.list(NA, world.namespace), "the artifact goes")
        world.until(lambda: not world.api.list(JOB, world.namespace), "its Job goes")
        world.until(lambda: not world.api.list(SERVICE, world.namespace), "the children go")

    def test_deleted_while_another_needs_the_artifact_leaves_it(self, world: World) -> None:
        world.node.jobs = running_for_ever
        world.deploy()
        world.deploy("second")
        world.until_condition("False/Fetching", names.WEIGHTS_READY, "second")
        world.api.delete(ND, world.namespace, "nano")
        world.until(lambda: not world.api.find(SERVICE, world.namespace, "nano"))
        world.until_settled()
        assert len(world.api.list(NA, world.namespace)) == 1

    def test_finished_artifacts_outlive_their_deployment_and_serve_the_next(self, world: World) -> None:
        world.deploy()
        world.until_ready()
        world.api.delete(ND, world.namespace, "nano")
        world.until(lambda: not world.servers())
        jobs = {job["metadata"]["uid"] for job in world.api.list(JOB, world.namespace)}
        world.deploy()
        world.until_ready()
        assert {job["metadata"]["uid"] for job in world.api.list(JOB, world.namespace)} == jobs

    def test_deleted_and_made_anew_at_once_gets_children_of_its_own(self, world: World) -> None:
        world.deploy()
        world.until_ready()
        world.api.delete(ND, world.namespace, "nano")
        body = world.deploy()
        world.until_ready()
        world.until_settled("nano")
        owners = [s["metadata"]["ownerReferences"][0]["uid"] for s in world.api.list(SERVICE, world.namespace)]
        assert owners == [body["metadata"]["uid"]] * 2


def test_artifacts_are_shared_by_deployments_of_the_same_model(world: World) -> None:
    world.deploy()
    world.deploy("second", replicas=2)
    world.until_ready()
    world.until_ready("second")
    assert len(world.api.list(NA, world.namespace)) == 2
    assert len(world.api.list(JOB, world.namespace)) == 2


def test_transitions_are_told_as_events_once(world: World) -> None:
    world.deploy()
    world.until_ready()
    world.until_settled("nano")
    path = f"/apis/events.k8s.io/v1/namespaces/{world.namespace}/events"
    told = [
        (event["action"], event["reason"])
        for event in world.api.call("GET", path)["items"]
        if event.get("reportingController") == names.FIELD_MANAGER and event["regarding"]["name"] == "nano"
    ]
    assert (names.READY, "Serving") in told
    assert (names.WEIGHTS_READY, "Verified") in told
    assert len(told) == len(set(told))
