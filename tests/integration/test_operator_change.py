"""Changes while something serves: the new comes up before the old goes, and what was mended recovers."""

import pytest

from nemotron_api import names
from nemotron_operator.objects import CONFIG_MAP, CONTROLLER_REVISION, DEPLOYMENT, JOB, NA
from tests.integration.operator_world import World
from tests.integration.pretend_node import failed, running_for_ever, sealed

pytestmark = pytest.mark.integration
pytest_plugins = ("tests.integration.operator_fixtures",)

NEW = {"runtime": {"image": "registry.test/backend:2"}}
NEWER = {"runtime": {"image": "registry.test/backend:3"}}
MANY = 1000


def images(world: World) -> set[str]:
    return {pod["spec"]["containers"][0]["image"] for pod in world.servers()}


def memories(world: World) -> list[str]:
    return [artifact["spec"]["runtime"]["resources"]["memory"] for artifact in world.api.list(NA, world.namespace)]


class TestRollout:
    def test_a_new_revision_comes_up_before_the_old_one_goes(self, world: World) -> None:
        world.deploy(replicas=2)
        world.until_ready()
        old = world.status()["revision"]
        world.node.fewest_ready["nano"] = MANY
        world.change(NEW)
        world.until_ready()
        world.until_settled("nano")
        assert world.node.fewest_ready["nano"] >= 2
        assert world.status()["revision"] != old
        assert images(world) == {"registry.test/backend:2"}
        assert len(world.api.list(DEPLOYMENT, world.namespace)) == 1

    def test_the_old_revisions_leavings_go_with_its_last_pod(self, world: World) -> None:
        world.deploy()
        world.until_ready()
        world.change(NEW)
        world.until_ready()
        world.until(lambda: world.count(CONFIG_MAP, names.REVISION_LABEL) == 1)
        world.until(lambda: world.count(CONTROLLER_REVISION, names.REVISION_LABEL) == 1)

    def test_while_the_new_revision_cannot_start_the_old_one_serves(self, world: World) -> None:
        world.deploy(replicas=2)
        world.until_ready()
        world.node.broken_images = frozenset({"registry.test/backend:2"})
        world.node.fewest_ready["nano"] = MANY
        world.change(NEW)
        world.until_condition("False/NewRevision")
        world.until(lambda: len(world.servers()) == 4, "both revisions have pods")
        world.until_settled()
        assert world.condition(names.AVAILABLE) == "True/MinimumReplicasRoutable"
        assert world.node.fewest_ready["nano"] == 2
        assert world.status()["routableReplicas"] == 2

    def test_a_revision_that_never_started_makes_room_for_the_one_that_mends_it(self, world: World) -> None:
        world.deploy(replicas=2)
        world.until_ready()
        world.node.broken_images = frozenset({"registry.test/backend:2"})
        world.change(NEW)
        world.until(lambda: "registry.test/backend:2" in images(world))
        world.node.servers_start = False
        world.node.fewest_ready["nano"] = MANY
        world.change(NEWER)
        world.until(lambda: "registry.test/backend:3" in images(world))
        world.until(lambda: "registry.test/backend:2" not in images(world), "the broken one goes first")
        world.node.servers_start = True
        world.until_ready()
        assert world.node.fewest_ready["nano"] >= 2

    def test_going_back_in_the_middle_is_quick_and_makes_nothing_anew(self, world: World) -> None:
        world.deploy(replicas=2)
        world.until_ready()
        old = world.status()["revision"]
        uids = {pod["metadata"]["uid"] for pod in world.servers()}
        world.node.servers_start = False
        world.change(NEW)
        world.until(lambda: len(world.servers()) == 4)
        world.node.fewest_ready["nano"] = MANY
        world.change({"runtime": None})
        world.until_ready()
        world.until(lambda: len(world.servers()) == 2, "the new revision's pods go")
        assert {pod["metadata"]["uid"] for pod in world.servers()} == uids
        assert world.status()["revision"] == old
        assert world.node.fewest_ready["nano"] == 2

    def test_changing_only_the_replicas_never_leaves_ready(self, world: World) -> None:
        world.deploy(disruption={"minAvailable": 4})
        world.until_ready()
        world.node.servers_start = False
        world.change({"replicas": 5})
        world.until(lambda: len(world.servers()) == 5)
        world.until(lambda: world.condition() != "", "the generation is answered")
        world.until_settled()
        assert world.condition() == "True/Serving"
        turned = [c["lastTransitionTime"] for c in world.status()["conditions"] if c["type"] == names.READY]
        world.node.servers_start = True
        world.until(lambda: world.status()["routableReplicas"] == 5)
        assert [c["lastTransitionTime"] for c in world.status()["conditions"] if c["type"] == names.READY] == turned


class TestRecovery:
    def test_a_failed_job_is_told_with_its_reason_and_tried_again(self, world: World) -> None:
        world.node.jobs = failed("ChecksumMismatch", "model.safetensors is not what was promised")
        world.deploy()
        world.until_condition("False/ChecksumMismatch", names.WEIGHTS_READY)
        assert "model.safetensors is not what was promised" in world.message()
        world.until(lambda: world.status().get("lastFailure", {}).get("exitCode") == 1)
        world.node.jobs = sealed
        world.until_ready()
        assert "lastFailure" not in world.status()
        (weights,) = [a for a in world.api.list(NA, world.namespace) if a["spec"]["kind"] == "Weights"]
        assert weights["status"]["attempts"] >= 2
        assert "lastFailure" not in weights["status"]

    def test_mending_what_the_job_ran_with_lets_it_run_again(self, world: World) -> None:
        world.node.jobs = failed("OutOfMemory", "killed for memory")
        world.deploy(runtime={"resources": {"cpu": "1", "memory": "1Mi"}})
        world.until_condition("False/OutOfMemory", names.WEIGHTS_READY)
        world.change({"runtime": {"resources": {"memory": "4Gi"}}})
        world.until(lambda: memories(world) == ["4Gi"], "an artifact that asks for more")
        world.node.jobs = sealed
        world.until_ready()
        assert memories(world) == ["4Gi", "4Gi"]

    def test_another_source_leaves_no_unfinished_artifact_behind(self, world: World) -> None:
        world.node.jobs = failed("SourceNotFound", "nothing is there")
        world.deploy()
        world.until_condition("False/SourceNotFound", names.WEIGHTS_READY)
        world.node.jobs = sealed
        world.change({"model": {"source": {"uri": "pvc://models/elsewhere"}}})
        world.until_ready()
        world.until(lambda: len(world.api.list(NA, world.namespace)) == 2)

    def test_a_job_deleted_by_hand_is_made_again(self, world: World) -> None:
        world.node.jobs = running_for_ever
        world.deploy()
        (job,) = world.until(lambda: world.api.list(JOB, world.namespace))
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        world.api.delete(JOB, world.namespace, name)
        world.until(lambda: (found := world.api.find(JOB, world.namespace, name)) and found["metadata"]["uid"] != uid)
        world.node.jobs = sealed
        world.until_ready()

    def test_all_pods_lost_is_told_and_mended(self, world: World) -> None:
        world.deploy(replicas=2)
        world.until_ready()
        asked = world.node.questions
        world.node.servers_start = False
        for pod in world.servers():
            world.api.call("DELETE", f"/api/v1/namespaces/{world.namespace}/pods/{pod['metadata']['name']}")
        world.until_condition("False/PodsPending")
        world.node.servers_start = True
        world.until_ready()
        assert world.node.questions > asked, "it had to prove itself again"
