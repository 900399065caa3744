"""Whatever users and accidents do, the operator comes to rest where the spec says, and takes nothing down meanwhile."""

from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest.mock import patch

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from nemotron_api import names
from nemotron_api.deployment import NemotronDeployment
from nemotron_api.reasons import is_known
from nemotron_operator import reconciler as reconciler_module
from nemotron_operator.objects import Manifest, Ref
from nemotron_operator.plan import plan
from nemotron_operator.reconciler import Reconciler
from nemotron_operator.store import Key, Store
from tests.builders.operator import NAMESPACE, SETTINGS, a_body
from tests.builders.toy_cluster import ToyCluster

pytestmark = pytest.mark.unit

ND, NA = names.DEPLOYMENT_KIND, names.ARTIFACT_KIND

specs = st.fixed_dictionaries(
    {"replicas": st.integers(0, 3)},
    optional={
        "runtime": st.sampled_from([{"image": "registry.test/backend:2"}, {"image": "registry.test/backend:3"}]),
        "model": st.sampled_from([{"name": "tiny", "source": {"uri": f"pvc://models/{path}"}} for path in "ab"]),
        "placement": st.sampled_from([{"gpu": {"skus": ["H100-SXM"]}}, {"gpu": {"skus": ["H900"]}}]),
        "engine": st.just({"precision": "FP32"}),
    },
)
nths = st.integers(0, 11)
scaled = st.builds(lambda low, more: {"scaling": {"min": low, "max": low + more}}, st.integers(1, 2), st.integers(0, 2))


class Clock:
    """The time the reconciler reads."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    monotonic = time


class Prober:
    """Gets a token wherever a pod is ready."""

    def __init__(self, cluster: ToyCluster) -> None:
        self._cluster = cluster

    async def ask_for_token(self, address: str, *, patient: bool) -> str:
        return "" if any(self._cluster.routable(d["metadata"]["name"]) for d in self._cluster.of_kind(ND)) else "nobody"


class Operator:
    """The real store and reconciler, with a queue a test can look into."""

    def __init__(self, cluster: ToyCluster, clock: Clock) -> None:
        self.cluster, self.clock = cluster, clock
        self.store = Store()
        self.dirty: dict[Key, None] = {}
        self.timers: dict[Key, float] = {}
        prober: Any = Prober(cluster)
        toy: Any = cluster
        self.reconciler = Reconciler(self.store, toy, prober, SETTINGS, self._requeue)
        for body in cluster.objects.values():
            self.store.put(body)
        cluster.outbox.clear()
        self.mark(*self.store.deployment_keys(), *self.store.artifact_keys())

    def mark(self, *keys: Key) -> None:
        self.dirty |= dict.fromkeys(keys)

    def _requeue(self, key: Key, seconds: float) -> None:
        due = self.clock.now + seconds
        self.timers[key] = min(due, self.timers.get(key, due))

    def hear(self, kind: str) -> None:
        event, body = self.cluster.outbox[kind].popleft()
        self.mark(*(self.store.drop(body) if event == "DELETED" else self.store.put(body)))

    def fire(self) -> None:
        """Let the next timer come due."""
        key = min(self.timers, key=lambda k: self.timers[k])
        self.clock.now = max(self.clock.now, self.timers.pop(key))
        self.mark(key)

    def work(self, key: Key) -> None:
        self.dirty.pop(key)
        try:
            with patch.object(reconciler_module, "time", self.clock):
                finish(self.reconciler.reconcile(key))
        except ConnectionError:
            self.mark(key)


def finish(story: Coroutine[Any, Any, None]) -> None:
    """Run what never waits."""
    try:
        story.send(None)
    except StopIteration:
        return
    raise AssertionError("the toy cluster never makes anybody wait")


class Convergence(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cluster, self.clock = ToyCluster(), Clock()
        self.operator = Operator(self.cluster, self.clock)
        self.cluster.before_delete = self.nothing_that_serves_goes

    # Users.

    @rule(name=st.sampled_from(["nano", "mini"]), spec=specs | scaled)
    def apply(self, name: str, spec: dict[str, Any]) -> None:
        live = self.cluster.objects.get(Ref(ND, NAMESPACE, name), {})
        meta = live.get("metadata", {"name": name, "namespace": NAMESPACE})
        self.cluster.put({**live, **a_body(name, **spec), "metadata": dict(meta)})

    @rule(name=st.sampled_from(["nano", "mini"]))
    def delete(self, name: str) -> None:
        self.cluster.remove(Ref(ND, NAMESPACE, name))

    @rule(nth=nths)
    def delete_a_child(self, nth: int) -> None:
        kinds = ("Service", "ConfigMap", "Deployment", "ControllerRevision", NA, "Job", "PodDisruptionBudget")
        for ref in choose([ref for ref in sorted(self.cluster.objects) if ref.kind in kinds], nth):
            self.cluster.remove(ref)

    @rule(nth=nths)
    def edit_a_service(self, nth: int) -> None:
        for service in choose(self.cluster.of_kind("Service"), nth):
            self.cluster.put({**service, "spec": {**service["spec"], "selector": {"hand": "made"}}})

    @rule()
    def take_a_name(self) -> None:
        ref = Ref("Service", NAMESPACE, "nano")
        if ref not in self.cluster.objects:
            meta = {"name": ref.name, "namespace": NAMESPACE}
            self.cluster.put({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"mine": True}})

    # Machines.

    @rule(steps=st.lists(nths, min_size=1, max_size=12))
    def go_on(self, steps: list[int]) -> None:
        for nth in steps:
            for move in choose(list(self.cluster.moves()), nth):
                move()

    @rule(nth=nths)
    def accident(self, nth: int) -> None:
        for happen in choose(list(self.cluster.accidents()), nth):
            happen()

    # The operator.

    @rule(nths=st.lists(nths, min_size=1, max_size=12))
    def hear(self, nths: list[int]) -> None:
        for nth in nths:
            for kind in choose(sorted(kind for kind, events in self.cluster.outbox.items() if events), nth):
                self.operator.hear(kind)

    @rule(nth=nths)
    def work(self, nth: int) -> None:
        for key in choose(list(self.operator.dirty), nth):
            self.operator.work(key)

    @rule()
    def catch_up(self) -> None:
        self.rest(moving=False)

    @rule()
    def settle(self) -> None:
        if not self.cluster.trouble:
            self.rest(moving=True)

    @rule()
    def wait(self) -> None:
        if self.operator.timers:
            self.operator.fire()

    @rule(times=st.integers(1, 3))
    def trouble(self, times: int) -> None:
        self.cluster.trouble = times

    @rule()
    def restart(self) -> None:
        self.operator = Operator(self.cluster, self.clock)

    # What must hold.

    def nothing_that_serves_goes(self, ref: Ref) -> None:
        """As far as the operator can know: it hears of what happens late."""
        child = self.operator.store.child(ref)
        if ref.kind != "Deployment" or child is None:
            return
        owner = next(b for b in self.cluster.of_kind(ND) if b["metadata"]["name"] == child.labels[names.NAME_LABEL])
        body = self.operator.store.body(Key(ND, NAMESPACE, owner["metadata"]["name"]))
        assert body
        seen = self.operator.store.observe(Key(ND, NAMESPACE, body["metadata"]["name"]), body, "")
        (going,) = [w for w in seen.workloads if w.name == ref.name]
        spec = body["spec"]
        needed = spec["scaling"]["min"] if "scaling" in spec else spec["replicas"]
        carried = max((w.available for w in seen.workloads if w is not going), default=0)
        assert going.available == 0 or carried >= needed, f"{ref} served, and {carried} of {needed} replicas carry"

    @invariant()
    def all_is_well(self) -> None:
        for body in (*self.cluster.of_kind(ND), *self.cluster.of_kind(NA)):
            conditions = body.get("status", {}).get("conditions", ())
            types = [c["type"] for c in conditions]
            assert len(types) == len(set(types))
            for c in conditions:
                assert c["message"], c
                stage = names.WEIGHTS_READY if body["spec"].get("kind") == "Weights" else names.ENGINE_READY
                assert is_known(c["type"] if body["kind"] == ND else stage, c["status"], c["reason"]), c
                assert c["observedGeneration"] <= body["metadata"]["generation"]

        self.planning_twice_gives_the_same()
        self.what_is_somebody_elses_is_untouched()

    def planning_twice_gives_the_same(self) -> None:
        for key in self.operator.store.deployment_keys():
            body = self.operator.store.body(key)
            assert body
            deployment = NemotronDeployment.from_body(body)
            seen = self.operator.store.observe(key, body, deployment.claim)
            assert plan(deployment, seen, SETTINGS) == plan(deployment, seen, SETTINGS)

    def what_is_somebody_elses_is_untouched(self) -> None:
        service = self.cluster.objects.get(Ref("Service", NAMESPACE, "nano"), {})
        if service.get("spec", {}).get("mine"):
            assert "labels" not in service["metadata"]

    def teardown(self) -> None:
        """Everything heals, and the operator comes to rest."""
        self.cluster.trouble = 0
        self.rest(moving=True)
        if self.cluster.objects.get(Ref("Service", NAMESPACE, "nano"), {}).get("spec", {}).get("mine"):
            self.cluster.remove(Ref("Service", NAMESPACE, "nano"))
        self.rest(moving=True)
        for body in self.cluster.of_kind(ND):
            self.has_arrived(body)
        asleep = len(self.cluster.writes)
        self.operator = Operator(self.cluster, self.clock)
        self.rest(moving=True)
        assert self.cluster.writes[asleep:] == [], "a restart writes nothing"

    def rest(self, *, moving: bool) -> None:
        """Hear and do everything there is, until nothing happens any more but asking the same again and again."""
        asked_in_vain = 0
        for _ in range(5000):
            kinds = [kind for kind, events in self.cluster.outbox.items() if events]
            before = len(self.cluster.writes)
            if kinds:
                self.operator.hear(kinds[0])
            elif self.operator.dirty:
                self.operator.work(next(iter(self.operator.dirty)))
            elif moving and (moves := list(self.cluster.moves())):
                moves[0]()
                asked_in_vain = 0
            elif moving and self.operator.timers and asked_in_vain < 20:
                self.operator.fire()
                asked_in_vain += 1
            else:
                return
            if len(self.cluster.writes) != before:
                asked_in_vain = 0
        raise AssertionError(f"no rest: {self.cluster.writes[-12:]}")

    def has_arrived(self, body: Manifest) -> None:
        conditions = {c["type"]: c for c in body["status"]["conditions"]}
        deployment = NemotronDeployment.from_body(body)
        skus = deployment.placement.gpu.skus if deployment.placement.gpu else ()
        wanted = "UnknownSku" if "H900" in skus else "ScaledToZero" if deployment.most_replicas == 0 else "Serving"
        ready = conditions[names.READY]
        assert ready["reason"] == wanted, ready
        assert ready["observedGeneration"] == deployment.generation
        if wanted == "UnknownSku":
            return
        workloads = [w for w in self.cluster.of_kind("Deployment") if owner(w) == body["metadata"]["uid"]]
        assert [w["metadata"]["labels"][names.REVISION_LABEL] for w in workloads] == [body["status"]["revision"]]
        assert self.cluster.routable(deployment.name) == workloads[0]["spec"]["replicas"]
        assert body["status"]["routableReplicas"] == workloads[0]["spec"]["replicas"]
        for kind in ("ConfigMap", "ControllerRevision"):
            assert len([c for c in self.cluster.of_kind(kind) if owner(c) == body["metadata"]["uid"]]) == 1


T = TypeVar("T")


def choose(among: list[T], nth: int) -> list[T]:
    """The nth, counted round and round; none of none."""
    return [among[nth % len(among)]] if among else []


def owner(body: Manifest) -> str:
    return str(body["metadata"]["ownerReferences"][0]["uid"])


TestConvergence = Convergence.TestCase
TestConvergence.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
)
