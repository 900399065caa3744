"""Carrying out a plan: only what is not so already, and nothing of somebody else's."""

import asyncio
import copy
from dataclasses import replace
from typing import Any

import pytest

from nemotron_api import names
from nemotron_operator.apply import Leftover, carry_out
from nemotron_operator.objects import Manifest, Ref, with_hash
from nemotron_operator.plan import Action, Apply, Create, Delete, plan
from nemotron_operator.store import Store
from tests.builders.operator import NAMESPACE, SETTINGS, a_deployment, serving
from tests.builders.toy_cluster import ToyCluster

pytestmark = pytest.mark.unit

SERVICE = Ref("Service", NAMESPACE, "nano")


class World:
    """A cluster, and what the operator knows of it."""

    def __init__(self) -> None:
        self.cluster, self.store = ToyCluster(), Store()

    def carry_out(self, *actions: Action) -> tuple[Ref, ...]:
        toy: Any = self.cluster
        self.cluster.writes.clear()
        return asyncio.run(carry_out(actions, self.store, toy, self._learn))

    def _learn(self, body: Manifest) -> None:
        self.store.put(body)

    def hear(self) -> None:
        for events in self.cluster.outbox.values():
            while events:
                event, body = events.popleft()
                (self.store.drop if event == "DELETED" else self.store.put)(body)

    def edit(self, ref: Ref, **changed: Any) -> None:
        self.cluster.put({**copy.deepcopy(self.cluster.objects[ref]), **changed})
        self.hear()


def the_service() -> Manifest:
    for action in plan(a_deployment(), serving(a_deployment()), SETTINGS).actions:
        if isinstance(action, Apply) and Ref.of(action.manifest) == SERVICE:
            return action.manifest
    raise AssertionError("every deployment has a Service")


def everything() -> tuple[Action, ...]:
    return plan(a_deployment(replicas=2), serving(a_deployment(replicas=2)), SETTINGS).actions


def somebody_elses(owner: dict[str, Any] | None = None) -> Manifest:
    meta: dict[str, Any] = {"name": "nano", "namespace": NAMESPACE}
    if owner:
        meta["ownerReferences"] = [owner]
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"mine": True}}


def test_everything_is_written_once_and_then_never_again() -> None:
    world = World()
    world.carry_out(*everything())
    assert len(world.cluster.writes) == len(everything())
    world.carry_out(*everything())
    assert world.cluster.writes == []
    world.hear()
    world.carry_out(*everything())
    assert world.cluster.writes == []


def test_what_was_written_is_known_before_any_watch_tells() -> None:
    world = World()
    world.carry_out(Apply(the_service()))
    assert world.store.child(SERVICE)


def test_the_hash_is_on_what_is_applied() -> None:
    world = World()
    world.carry_out(Apply(the_service()))
    assert (
        world.cluster.objects[SERVICE]["metadata"]["annotations"]
        == (with_hash(the_service())["metadata"]["annotations"])
    )


class TestDrift:
    def test_a_field_of_ours_that_was_edited_is_taken_back(self) -> None:
        world = World()
        world.carry_out(Apply(the_service()))
        world.edit(SERVICE, spec={**the_service()["spec"], "selector": {"hand": "made"}})
        world.carry_out(Apply(the_service()))
        assert world.cluster.writes == [f"apply {SERVICE}"]

    def test_a_field_that_is_not_ours_is_left_alone(self) -> None:
        world = World()
        world.carry_out(Apply(the_service()))
        world.edit(SERVICE, spec={**the_service()["spec"], "sessionAffinity": "ClientIP"})
        world.carry_out(Apply(the_service()))
        assert world.cluster.writes == []

    def test_another_manifest_is_applied_even_where_the_live_one_has_all_its_fields(self) -> None:
        world = World()
        more = copy.deepcopy(the_service())
        more["spec"]["sessionAffinity"] = "ClientIP"
        world.carry_out(Apply(more))
        world.carry_out(Apply(the_service()))
        assert world.cluster.writes == [f"apply {SERVICE}"], "else a field we gave up would stay for ever"

    def test_what_was_deleted_comes_back(self) -> None:
        world = World()
        world.carry_out(Apply(the_service()))
        world.cluster.remove(SERVICE)
        world.hear()
        world.carry_out(Apply(the_service()))
        assert SERVICE in world.cluster.objects


class TestNames:
    def test_what_is_somebody_elses_stops_everything_and_is_told(self) -> None:
        world = World()
        theirs = world.cluster.put(somebody_elses())
        assert world.carry_out(*everything()) == (SERVICE,)
        assert world.cluster.writes == []
        assert world.cluster.objects[SERVICE] == theirs

    def test_every_taken_name_is_told_at_once(self) -> None:
        world = World()
        world.cluster.put(somebody_elses())
        account = {**somebody_elses(), "kind": "ServiceAccount"}
        world.cluster.put(account)
        assert set(world.carry_out(*everything())) == {SERVICE, Ref("ServiceAccount", NAMESPACE, "nano")}

    def test_an_object_of_another_deployment_is_somebody_elses(self) -> None:
        world = World()
        owner = {"kind": names.DEPLOYMENT_KIND, "name": "other", "uid": "uid-of-other", "controller": True}
        world.cluster.put(somebody_elses(owner))
        world.hear()
        assert world.carry_out(Apply(the_service())) == (SERVICE,)

    def test_our_labels_on_it_do_not_make_it_ours(self) -> None:
        world = World()
        body = somebody_elses()
        body["metadata"]["labels"] = dict(the_service()["metadata"]["labels"])
        world.cluster.put(body)
        world.hear()
        assert world.carry_out(Apply(the_service())) == (SERVICE,)

    def test_ours_that_no_watch_has_told_of_yet_is_ours(self) -> None:
        world = World()
        world.cluster.put(copy.deepcopy(the_service()))
        assert world.carry_out(Apply(the_service())) == ()

    def test_what_a_deleted_deployment_of_this_name_left_is_waited_for(self) -> None:
        world = World()
        owner = {"kind": names.DEPLOYMENT_KIND, "name": "nano", "uid": "uid-of-before", "controller": True}
        world.cluster.put(somebody_elses(owner))
        with pytest.raises(Leftover, match="Service models/nano belongs to a deleted NemotronDeployment"):
            world.carry_out(*everything())
        assert world.cluster.writes == []

    def test_what_nobody_owns_is_shared(self) -> None:
        world = World()
        actions = [action for action in everything() if isinstance(action, Create)]
        shared = [action for action in actions if "ownerReferences" not in action.manifest["metadata"]]
        assert len(shared) == 3
        for action in shared:
            world.cluster.put({**action.manifest, "spec": {"somebody": "elses"}})
        assert world.carry_out(*shared) == ()
        assert all(world.cluster.objects[Ref.of(a.manifest)]["spec"] == {"somebody": "elses"} for a in shared)


def test_what_is_gone_already_can_be_deleted() -> None:
    world = World()
    world.carry_out(Delete(SERVICE))
    assert world.cluster.writes == [f"delete {SERVICE}"]


def test_an_error_in_the_middle_leaves_the_rest_for_the_next_time() -> None:
    world = World()
    reads = len([a for a in everything() if "ownerReferences" in getattr(a, "manifest", {}).get("metadata", {})])
    world.cluster.fail_after = reads + 3
    with pytest.raises(ConnectionError):
        world.carry_out(*everything())
    done = set(world.cluster.writes)
    world.carry_out(*everything())
    assert not done & set(world.cluster.writes)
    assert len(done) + len(world.cluster.writes) == len(everything())


def test_planning_from_what_was_just_written_asks_for_nothing_more() -> None:
    world = World()
    deployment = a_deployment()
    first = plan(deployment, serving(deployment), SETTINGS)
    world.carry_out(*first.actions)
    again = plan(deployment, replace(serving(deployment), children={}), SETTINGS)
    world.carry_out(*again.actions)
    assert world.cluster.writes == []
