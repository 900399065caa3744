"""The objects around a deployment: kept as they should be, and nobody else's touched."""

from functools import partial
from typing import Any

import pytest

from nemotron_api import names
from nemotron_operator.objects import (
    CONFIG_MAP,
    CONTROLLER_REVISION,
    DEPLOYMENT,
    ND,
    PDB,
    SERVICE,
    SERVICE_ACCOUNT,
    Kind,
    Manifest,
)
from tests.integration.operator_world import World

pytestmark = pytest.mark.integration
pytest_plugins = ("tests.integration.operator_fixtures",)


def a_service(world: World, name: str = "nano") -> Manifest:
    meta = {"name": name, "namespace": world.namespace, "labels": {"app": "somebody-elses"}}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}}


class TestNameTaken:
    def test_a_users_service_is_untouched_and_told_of_until_it_goes(self, world: World) -> None:
        theirs = world.api.create(a_service(world))
        world.deploy()
        world.until_condition("False/NameTaken")
        assert world.condition(names.ACCEPTED) == "False/NameTaken"
        assert f"Service {world.namespace}/nano exists" in world.message()
        world.until_settled()
        assert world.api.get(SERVICE, world.namespace, "nano") == theirs
        assert [write for write in world.writes() if "nemotrondeployments/status" not in write] == []
        world.api.delete(SERVICE, world.namespace, "nano")
        world.until_ready()

    def test_two_deployments_that_need_one_name(self, world: World) -> None:
        world.deploy("nano")
        world.until_ready()
        world.deploy("nano-pods")
        world.until_condition("False/NameTaken", name="nano-pods")
        assert world.condition() == "True/Serving"
        assert world.api.get(SERVICE, world.namespace, "nano-pods")["spec"]["clusterIP"] == "None"

    def test_the_namespaces_own_account_is_not_taken_over(self, world: World) -> None:
        world.deploy("default")
        world.until_condition("False/NameTaken", name="default")
        assert f"ServiceAccount {world.namespace}/default" in world.message(name="default")

    def test_a_service_that_becomes_somebody_elses_takes_no_serving_pod_down(self, world: World) -> None:
        world.deploy()
        world.until_ready()
        world.until_settled("nano")
        world.api.patch(SERVICE, world.namespace, "nano", {"metadata": {"ownerReferences": []}})
        world.until_settled()
        assert len(world.servers()) == 1


EDITS: dict[str, tuple[dict[str, Any], ...]] = {
    "Service": ({"spec": {"selector": {"hand": "made"}}}, {"metadata": {"labels": {names.NAME_LABEL: "other"}}}),
    "Deployment": ({"spec": {"replicas": 7}}, {"metadata": {"annotations": {names.APPLIED_HASH: None}}}),
    "ServiceAccount": ({"automountServiceAccountToken": True},),
    "PodDisruptionBudget": ({"spec": {"minAvailable": 2}},),
}
"""What a hand may do to a child."""


@pytest.mark.parametrize("kind", [SERVICE, DEPLOYMENT, SERVICE_ACCOUNT, PDB], ids=lambda k: k.kind)
def test_a_child_edited_by_hand_is_set_right_once(world: World, kind: Kind) -> None:
    world.deploy(replicas=2)
    world.until_ready()
    world.until_settled("nano")
    names_there = [c["metadata"]["name"] for c in world.api.list(kind, world.namespace)]
    (name,) = [n for n in names_there if n.startswith("nano") and n != "nano-pods"]
    child = world.api.get(kind, world.namespace, name)
    for change in EDITS[kind.kind]:
        before = len(world.writes())
        world.api.patch(kind, world.namespace, name, change)
        world.until(partial(world.wrote_since, before), f"{change} is set right")
        world.until_settled("nano")
        assert wanted_of(world.api.get(kind, world.namespace, name)) == wanted_of(child)
        fixes = [write for write in world.writes()[before:] if "/status" not in write]
        assert len(fixes) == 1, fixes


def wanted_of(body: Manifest) -> Manifest:
    """The object without what the API server and its controllers keep in it."""
    meta = {key: body["metadata"].get(key) for key in ("labels", "annotations", "ownerReferences")}
    annotations = {k: v for k, v in meta["annotations"].items() if k.startswith("serving.")}
    rest = {key: value for key, value in body.items() if key not in ("metadata", "status")}
    return {**rest, "metadata": {**meta, "annotations": annotations}}


def test_what_others_add_to_a_child_stays_and_costs_no_writes(world: World) -> None:
    world.deploy()
    world.until_ready()
    world.until_settled("nano")
    before = len(world.writes())
    ports = world.api.get(SERVICE, world.namespace, "nano")["spec"]["ports"]
    world.api.patch(SERVICE, world.namespace, "nano", {"spec": {"ports": [*ports, {"name": "extra", "port": 9}]}})
    world.api.patch(SERVICE, world.namespace, "nano", {"metadata": {"labels": {"team": "blue"}}})
    for _ in range(3):
        world.api.patch(ND, world.namespace, "nano", {"metadata": {"annotations": {"touched": str(_)}}})
        world.until_settled()
    assert world.writes()[before:] == []
    assert len(world.api.get(SERVICE, world.namespace, "nano")["spec"]["ports"]) == 4


@pytest.mark.parametrize(
    "kind", [SERVICE, DEPLOYMENT, SERVICE_ACCOUNT, CONFIG_MAP, CONTROLLER_REVISION, PDB], ids=lambda k: k.kind
)
def test_a_child_deleted_by_hand_comes_back(world: World, kind: Kind) -> None:
    world.deploy(replicas=2)
    world.until_ready()
    world.until_settled("nano")
    ours = [c for c in world.api.list(kind, world.namespace) if names.NAME_LABEL in c["metadata"].get("labels", {})]
    for child in ours:
        world.api.delete(kind, world.namespace, child["metadata"]["name"])
    old = {child["metadata"]["uid"] for child in ours}
    names_of_old = {child["metadata"]["name"] for child in ours}

    def is_back() -> bool:
        live = world.api.list(kind, world.namespace)
        mine = [c for c in live if names.NAME_LABEL in c["metadata"].get("labels", {})]
        return {c["metadata"]["name"] for c in mine} == names_of_old and not old & {c["metadata"]["uid"] for c in mine}

    world.until(is_back, f"{kind.kind} comes back")
    world.until_ready()
    world.until_settled("nano")
    assert len(world.servers()) == 2


def test_a_spec_that_only_the_api_server_can_judge_is_told_in_its_words(world: World) -> None:
    wrong = [{"key": "gpu", "operator": "Exists", "value": "a value that Exists does not take"}]
    world.deploy(placement={"tolerations": wrong})
    world.until_condition("False/Refused", names.WEIGHTS_READY)
    assert "value must be empty when `operator` is 'Exists'" in world.message()
    world.change({"placement": {"tolerations": [{"key": "gpu", "operator": "Exists"}]}})
    world.until_ready()
