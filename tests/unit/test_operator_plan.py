"""The planner, one situation at a time: given a deployment and a cluster, when it plans, then these actions follow."""

from dataclasses import replace
from typing import Any

import pytest

from nemotron_api import names
from nemotron_operator.objects import Ref
from nemotron_operator.observed import Child, Load, Observed
from nemotron_operator.plan import plan
from tests.builders.operator import (
    NAMESPACE,
    SETTINGS,
    a_body,
    a_deployment,
    a_pod,
    a_smoke,
    a_status,
    condition,
    manifest_of,
    message,
    serving,
    target,
    titles,
    with_artifacts,
    with_revision,
)

pytestmark = pytest.mark.unit

STATIC = ["apply ServiceAccount nano", "apply Service nano", "apply Service nano-pods"]
WEIGHTS, ENGINE = "NemotronArtifact weights-", "NemotronArtifact engine-"


def brief(action: str) -> str:
    """An action without the hash in its object's name."""
    verb, kind, name = action.split()
    return f"{verb} {kind} {name.partition('-')[0]}" if kind in REVISIONED else action


REVISIONED = ("NemotronArtifact", "ControllerRevision", "ConfigMap", "Deployment")
SHARED = ["create PersistentVolumeClaim nemotron-store", "create NemotronArtifact weights"]
PER_REVISION = ["create ControllerRevision nano", "apply ConfigMap nano", "apply Deployment nano"]


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        pytest.param(Observed(), [*SHARED, *STATIC], id="a-new-deployment-asks-for-its-weights-and-makes-its-services"),
        pytest.param(
            with_artifacts(a_deployment(), weights="Fetching"),
            [*SHARED, *STATIC],
            id="while-the-weights-are-fetched-nothing-else-is-asked-for",
        ),
        pytest.param(
            with_artifacts(a_deployment(), engine="absent"),
            [*SHARED, "create NemotronArtifact engine", *STATIC],
            id="verified-weights-start-the-engine",
        ),
        pytest.param(
            with_artifacts(a_deployment(), engine="Building"),
            [*SHARED, "create NemotronArtifact engine", *STATIC],
            id="while-the-engine-is-built-no-pod-is-made",
        ),
        pytest.param(
            with_artifacts(a_deployment()),
            [*SHARED, "create NemotronArtifact engine", *STATIC, *PER_REVISION],
            id="a-sealed-engine-becomes-a-revision",
        ),
        pytest.param(
            serving(a_deployment()),
            [*SHARED, "create NemotronArtifact engine", *STATIC, *PER_REVISION],
            id="what-serves-is-asked-for-again-and-nothing-else",
        ),
    ],
)
def test_a_deployment_goes_from_nothing_to_a_revision(observed: Observed, expected: list[str]) -> None:
    assert [brief(title) for title in titles(plan(a_deployment(), observed, SETTINGS))] == expected


CONDITIONS = [names.ACCEPTED, names.WEIGHTS_READY, names.ENGINE_READY, names.AVAILABLE, names.PROGRESSING, names.READY]


@pytest.mark.parametrize(
    ("observed", "expected"),
    [
        pytest.param(
            Observed(),
            "True/Resolved False/Queued False/WaitingForWeights False/WaitingForEngine False/Blocked False/Queued",
            id="new",
        ),
        pytest.param(
            with_artifacts(a_deployment(), weights="ChecksumMismatch"),
            "True/Resolved False/ChecksumMismatch False/WaitingForWeights False/WaitingForEngine False/Blocked "
            "False/ChecksumMismatch",
            id="the-reason-of-a-failed-job-becomes-the-reason-of-ready",
        ),
        pytest.param(
            with_artifacts(a_deployment(), engine="Building"),
            "True/Resolved True/Verified False/Building False/WaitingForEngine False/Blocked False/Building",
            id="building",
        ),
        pytest.param(
            with_revision(a_deployment(), with_artifacts(a_deployment())),
            "True/Resolved True/Verified True/Built False/PodsPending True/NewRevision False/PodsPending",
            id="pods-pending",
        ),
        pytest.param(
            with_revision(a_deployment(), with_artifacts(a_deployment()), available=1),
            "True/Resolved True/Verified True/Built True/MinimumReplicasRoutable True/NewRevision False/NotRoutable",
            id="available-is-not-ready-before-a-token-came",
        ),
        pytest.param(
            serving(a_deployment()),
            "True/Resolved True/Verified True/Built True/MinimumReplicasRoutable False/Complete True/Serving",
            id="serving",
        ),
    ],
)
def test_the_conditions_tell_how_far_it_is(observed: Observed, expected: str) -> None:
    decided = plan(a_deployment(), observed, SETTINGS)
    assert " ".join(condition(decided, type_) for type_ in CONDITIONS) == expected


def test_ready_comes_last_so_that_its_transition_is_read_last() -> None:
    assert plan(a_deployment(), Observed(), SETTINGS).conditions[-1].type == names.READY


class TestProof:
    """Ready only after a token came back through the Service."""

    def test_an_available_revision_asks_for_a_token(self) -> None:
        observed = with_revision(a_deployment(), with_artifacts(a_deployment()), available=1)
        decided = plan(a_deployment(), observed, SETTINGS)
        assert decided.ask_for_token
        assert decided.again_in, "nobody tells when the Service begins to answer"

    def test_a_token_makes_it_ready(self) -> None:
        observed = with_revision(a_deployment(), with_artifacts(a_deployment()), available=1)
        proven = replace(observed, smoke=a_smoke(target(a_deployment(), observed).name))
        decided = plan(a_deployment(), proven, SETTINGS)
        assert condition(decided, names.READY) == "True/Serving"
        assert not decided.ask_for_token
        assert decided.status["servingRevision"] == decided.status["revision"]

    def test_no_token_says_what_came_instead(self) -> None:
        observed = with_revision(a_deployment(), with_artifacts(a_deployment()), available=1)
        failed = replace(
            observed, smoke=a_smoke(target(a_deployment(), observed).name, ok=False, message="answered 503")
        )
        decided = plan(a_deployment(), failed, SETTINGS)
        assert condition(decided, names.READY) == "False/NotRoutable"
        assert message(decided, names.READY) == "answered 503"
        assert decided.ask_for_token

    def test_a_token_of_another_revision_proves_nothing(self) -> None:
        observed = with_revision(a_deployment(), with_artifacts(a_deployment()), available=1)
        decided = plan(a_deployment(), replace(observed, smoke=a_smoke("0123456789")), SETTINGS)
        assert condition(decided, names.READY) == "False/NotRoutable"

    def test_two_revisions_behind_the_service_prove_nothing_about_either(self) -> None:
        old, new = a_deployment(), a_deployment(image="registry.test/backend:2")
        both = with_revision(new, with_artifacts(new, observed=serving(old)), available=0)
        assert not plan(new, both, SETTINGS).ask_for_token

    def test_a_restarted_operator_believes_what_the_status_says(self) -> None:
        decided = plan(a_deployment(), serving(a_deployment()), SETTINGS)
        assert condition(decided, names.READY) == "True/Serving"
        assert not decided.ask_for_token

    def test_all_replicas_lost_and_back_must_prove_itself_again(self) -> None:
        lost = replace(serving(a_deployment(), available=0))
        assert condition(plan(a_deployment(), lost, SETTINGS), names.READY).startswith("False/")
        back = serving(a_deployment())
        name = target(a_deployment(), back).name
        assert plan(a_deployment(), replace(back, status=a_status(name, ready="False")), SETTINGS).ask_for_token


class TestSurge:
    """A new revision comes up before the old one goes."""

    OLD, NEW = a_deployment(replicas=2), a_deployment(replicas=2, image="registry.test/backend:2", generation=2)

    def in_rollout(self, available: int) -> Observed:
        observed = with_artifacts(self.NEW, observed=serving(self.OLD))
        return with_revision(self.NEW, observed, replicas=2, available=available)

    def test_while_the_new_engine_is_built_the_old_revision_stays(self) -> None:
        observed = with_artifacts(self.NEW, observed=serving(self.OLD), engine="Building")
        decided = plan(self.NEW, observed, SETTINGS)
        assert not [title for title in titles(decided) if title.startswith("delete")]
        assert condition(decided, names.AVAILABLE) == "True/MinimumReplicasRoutable"
        assert condition(decided, names.READY) == "False/Building"

    @pytest.mark.parametrize("available", [0, 1])
    def test_until_the_new_revision_is_complete_the_old_one_stays(self, available: int) -> None:
        decided = plan(self.NEW, self.in_rollout(available), SETTINGS)
        assert not [title for title in titles(decided) if title.startswith("delete")]
        assert condition(decided, names.READY) == "False/NewRevision"
        assert decided.status["replicas"] == 4

    def test_once_it_is_complete_the_old_one_goes(self) -> None:
        observed = self.in_rollout(2)
        old = target(self.OLD, serving(self.OLD)).name
        assert f"delete Deployment nano-{old}" in titles(plan(self.NEW, observed, SETTINGS))

    def test_a_deployment_that_is_already_going_is_not_deleted_again(self) -> None:
        observed = self.in_rollout(2)
        going = tuple(replace(w, deleting=w.revision != target(self.NEW, observed).name) for w in observed.workloads)
        assert not [
            title for title in titles(plan(self.NEW, replace(observed, workloads=going), SETTINGS)) if "delete" in title
        ]

    def test_going_back_in_the_middle_keeps_the_old_and_drops_the_new(self) -> None:
        observed = self.in_rollout(1)
        new = target(self.NEW, observed).name
        assert f"delete Deployment nano-{new}" in titles(plan(self.OLD, observed, SETTINGS))
        assert f"delete Deployment nano-{target(self.OLD, observed).name}" not in titles(
            plan(self.OLD, observed, SETTINGS)
        )

    def test_a_superseded_revision_that_never_served_makes_room_at_once(self) -> None:
        third = a_deployment(replicas=2, image="registry.test/backend:3", generation=3)
        observed = with_artifacts(third, observed=self.in_rollout(0))
        stuck = target(self.NEW, self.in_rollout(0)).name
        deleted = [title for title in titles(plan(third, observed, SETTINGS)) if title.startswith("delete Deployment")]
        assert deleted == [f"delete Deployment nano-{stuck}"]

    def test_a_revision_that_serves_is_never_superseded_before_the_target_carries(self) -> None:
        third = a_deployment(replicas=2, image="registry.test/backend:3", generation=3)
        for available in (0, 1, 2):
            observed = with_artifacts(third, observed=self.in_rollout(available))
            deleted = [t for t in titles(plan(third, observed, SETTINGS)) if t.startswith("delete Deployment")]
            assert f"delete Deployment nano-{target(self.OLD, serving(self.OLD)).name}" not in deleted

    def test_what_an_old_revision_was_rendered_to_stays_while_its_pods_drain(self) -> None:
        observed = serving(self.NEW)
        old = target(self.OLD, serving(self.OLD))
        children = {ref: a_child(ref, old.name) for ref in old_refs(old.name)}
        draining = replace(observed, children=children, pods=(a_pod(revision=old.name, deleting=True),))
        assert not [t for t in titles(plan(self.NEW, draining, SETTINGS)) if t.startswith("delete")]
        gone = replace(draining, pods=())
        assert [brief(t) for t in titles(plan(self.NEW, gone, SETTINGS)) if t.startswith("delete")] == [
            "delete ConfigMap nano",
            "delete ControllerRevision nano",
        ]


def old_refs(revision: str) -> tuple[Ref, ...]:
    return tuple(Ref(kind, NAMESPACE, f"nano-{revision}") for kind in ("ConfigMap", "ControllerRevision"))


def a_child(ref: Ref, revision: str) -> Child:
    return Child(ref, "uid", 1, "uid-of-nano", {names.REVISION_LABEL: revision}, False, b"{}")


class TestReplicas:
    @pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 5), (5, 2)])
    def test_a_generation_that_changes_only_replicas_never_leaves_ready(self, before: int, after: int) -> None:
        observed = serving(a_deployment(replicas=before))
        for told in (before, after):
            scaled = replace(observed, workloads=tuple(replace(w, replicas=told) for w in observed.workloads))
            decided = plan(a_deployment(replicas=after, generation=2), scaled, SETTINGS)
            assert condition(decided, names.READY) == "True/Serving"
            assert condition(decided, names.PROGRESSING) == "True/Scaling"
            assert manifest_of(decided, "Deployment")["spec"]["replicas"] == after

    def test_more_replicas_than_ever_to_keep_available_do_not_leave_ready_either(self) -> None:
        asked: dict[str, Any] = {"disruption": {"minAvailable": 4}}
        observed = serving(a_deployment(replicas=2, **asked))
        decided = plan(a_deployment(replicas=5, generation=2, **asked), observed, SETTINGS)
        assert condition(decided, names.READY) == "True/Serving"

    def test_replicas_alone_make_no_revision(self) -> None:
        observed = serving(a_deployment(replicas=1))
        name = target(a_deployment(replicas=1), observed).name
        assert target(a_deployment(replicas=7), observed).name == name

    def test_scaled_to_zero_is_settled_and_says_so(self) -> None:
        zero = a_deployment(replicas=0)
        decided = plan(zero, serving(zero), SETTINGS)
        assert condition(decided, names.READY) == "False/ScaledToZero"
        assert condition(decided, names.PROGRESSING) == "False/Complete"
        assert not decided.ask_for_token
        assert decided.status["replicas"] == 0

    def test_scaled_to_zero_after_it_had_served_is_settled_too(self) -> None:
        zero = a_deployment(replicas=0, generation=2)
        observed = serving(zero)
        left_ready = a_status(target(zero, observed).name, ready="False", generation=2)
        decided = plan(zero, replace(observed, status=left_ready), SETTINGS)
        assert condition(decided, names.PROGRESSING) == "False/Complete"

    def test_a_passed_deadline_is_told(self) -> None:
        observed = with_revision(a_deployment(), with_artifacts(a_deployment()), stalled=True)
        assert condition(plan(a_deployment(), observed, SETTINGS), names.PROGRESSING) == "False/DeadlineExceeded"


class TestDisruptionBudget:
    REF = Ref("PodDisruptionBudget", NAMESPACE, "nano")

    @pytest.mark.parametrize(
        ("spec", "least"),
        [
            pytest.param({"replicas": 1}, None, id="one-replica-would-block-drains"),
            pytest.param({"replicas": 0}, None, id="none"),
            pytest.param({"replicas": 2}, 1, id="two"),
            pytest.param({"replicas": 5, "disruption": {"minAvailable": 3}}, 3, id="what-the-user-says"),
            pytest.param({"replicas": 2, "disruption": {"minAvailable": 9}}, 2, id="never-more-than-there-are"),
            pytest.param({"scaling": {"min": 1, "max": 9}}, None, id="the-load-may-leave-one"),
            pytest.param({"scaling": {"min": 3, "max": 9}}, 1, id="at-least-three"),
        ],
    )
    def test_it_leaves_room_for_a_drain(self, spec: dict[str, Any], least: int | None) -> None:
        decided = plan(a_deployment(**spec), Observed(), SETTINGS)
        wanted = "apply PodDisruptionBudget nano" in titles(decided)
        assert wanted == (least is not None)
        if least is not None:
            assert manifest_of(decided, "PodDisruptionBudget")["spec"]["minAvailable"] == least

    def test_it_goes_when_the_replicas_drop_to_one(self) -> None:
        observed = replace(Observed(), children={self.REF: a_child(self.REF, "")})
        assert "delete PodDisruptionBudget nano" in titles(plan(a_deployment(replicas=1), observed, SETTINGS))

    def test_it_is_not_deleted_where_there_is_none(self) -> None:
        assert "delete PodDisruptionBudget nano" not in titles(plan(a_deployment(replicas=1), Observed(), SETTINGS))


class TestRejection:
    @pytest.mark.parametrize(
        ("spec", "observed", "reason", "says"),
        [
            pytest.param(
                {},
                Observed(taken=(Ref("Service", NAMESPACE, "nano"),)),
                "NameTaken",
                "Service models/nano exists and is not this deployment's",
                id="somebody-elses-service",
            ),
            pytest.param(
                {"placement": {"gpu": {"skus": ["H100-SXM", "H900"]}}},
                Observed(),
                "UnknownSku",
                "H900 is unknown; known are L4",
                id="a-gpu-nobody-makes",
            ),
            pytest.param(
                {"engine": {"parallelism": {"tensor": 2}}},
                Observed(),
                "InvalidSpec",
                "engine.parallelism.tensor is 2, but placement.gpu is absent",
                id="tensor-parallel-processors",
            ),
            pytest.param(
                {"replicas": 2},
                Observed(claim_modes=("ReadWriteOnce",)),
                "VolumeNotShareable",
                "claim nemotron-store is ReadWriteOnce",
                id="one-node-volume-and-two-replicas",
            ),
            pytest.param(
                {"scaling": {"min": 1, "max": 2}},
                Observed(claim_modes=("ReadWriteOncePod",)),
                "VolumeNotShareable",
                "up to 2 replicas",
                id="one-node-volume-and-a-load-that-may-ask-for-two",
            ),
        ],
    )
    def test_nothing_is_done_and_the_user_reads_why(
        self, spec: dict[str, Any], observed: Observed, reason: str, says: str
    ) -> None:
        decided = plan(a_deployment(**spec), observed, SETTINGS)
        assert decided.actions == ()
        assert condition(decided, names.ACCEPTED) == f"False/{reason}"
        assert condition(decided, names.READY) == f"False/{reason}"
        assert says in message(decided, names.ACCEPTED)
        assert decided.again_in, "what stands in the way is not ours, so no event tells when it goes"

    @pytest.mark.parametrize(
        "observed", [Observed(claim_modes=("ReadWriteOnce",)), Observed(claim_modes=None)], ids=["one-node", "no-claim"]
    )
    def test_one_replica_needs_no_shareable_volume(self, observed: Observed) -> None:
        assert condition(plan(a_deployment(replicas=1), observed, SETTINGS), names.ACCEPTED) == "True/Resolved"

    def test_what_serves_is_still_counted_when_a_change_is_refused(self) -> None:
        observed = replace(serving(a_deployment(replicas=2)), taken=(Ref("Service", NAMESPACE, "nano"),))
        decided = plan(a_deployment(replicas=2), observed, SETTINGS)
        assert decided.status["routableReplicas"] == 2
        assert decided.status["servingRevision"]


class TestWhyPodsAreNotReady:
    @pytest.mark.parametrize(
        ("pod", "available", "capacity", "says"),
        [
            pytest.param(
                {"phase": "Pending", "unschedulable": "0/2 nodes: 2 Insufficient nvidia.com/gpu."},
                "False/PodsPending",
                "False/InsufficientGpu",
                "scheduled",
                id="no-gpu-free",
            ),
            pytest.param(
                {"phase": "Pending", "unschedulable": "0/2 nodes: untolerated taint"},
                "False/PodsPending",
                "False/Unschedulable",
                "scheduled",
                id="no-node",
            ),
            pytest.param(
                {"phase": "Pending", "waiting": ("ImagePullBackOff", "no such image")},
                "False/ImageUnavailable",
                "True/Fits",
                "no such image",
                id="no-image",
            ),
            pytest.param(
                {"phase": "Pending", "waiting": ("CreateContainerConfigError", 'secret "hf" not found')},
                "False/SecretMissing",
                "True/Fits",
                'secret "hf" not found',
                id="no-secret",
            ),
            pytest.param(
                {"waiting": ("CrashLoopBackOff", "back-off 10s"), "ended": (3, "Error", "EngineMismatch: SM 9.0")},
                "False/PodsCrashing",
                "True/Fits",
                "It ended with code 3: EngineMismatch: SM 9.0",
                id="crashing",
            ),
            pytest.param({"ready": False}, "False/LoadingModel", "True/Fits", "load the model", id="loading"),
        ],
    )
    def test_the_pods_state_is_translated(self, pod: dict[str, Any], available: str, capacity: str, says: str) -> None:
        observed = with_revision(a_deployment(), with_artifacts(a_deployment()))
        revision = target(a_deployment(), observed).name
        decided = plan(a_deployment(), replace(observed, pods=(a_pod(revision=revision, **pod),)), SETTINGS)
        assert condition(decided, names.AVAILABLE) == available
        assert condition(decided, names.CAPACITY_AVAILABLE) == capacity
        assert says in message(decided, names.AVAILABLE)

    def test_one_replica_without_a_node_does_not_stop_those_that_serve(self) -> None:
        observed = serving(a_deployment(replicas=2), available=1)
        revision = target(a_deployment(replicas=2), observed).name
        waiting = a_pod(revision=revision, phase="Pending", unschedulable="Insufficient nvidia.com/gpu")
        decided = plan(a_deployment(replicas=2), replace(observed, pods=(waiting,)), SETTINGS)
        assert condition(decided, names.CAPACITY_AVAILABLE) == "False/InsufficientGpu"
        assert condition(decided, names.READY) == "True/Serving"


class TestImage:
    def test_a_new_chart_image_changes_no_revision(self) -> None:
        observed = serving(a_deployment())
        upgraded = SETTINGS.model_copy(update={"runtime_image": "registry.test/backend:9"})
        now, then = plan(a_deployment(), observed, SETTINGS), plan(a_deployment(), observed, upgraded)
        assert then.actions == now.actions
        assert then.status == now.status

    def test_an_image_the_user_names_is_a_new_revision(self) -> None:
        observed = serving(a_deployment())
        changed = a_deployment(image="registry.test/backend:9")
        decided = plan(changed, observed, SETTINGS)
        assert decided.status["resolved"]["image"] == "registry.test/backend:9"
        assert decided.status.get("revision") != target(a_deployment(), observed).name

    def test_new_chart_resources_change_no_revision(self) -> None:
        observed = serving(a_deployment())
        richer = SETTINGS.model_copy(update={"resources": SETTINGS.resources.model_copy(update={"memory": "9Gi"})})
        assert plan(a_deployment(), observed, richer).actions == plan(a_deployment(), observed, SETTINGS).actions


class TestReuse:
    def test_a_second_deployment_finds_the_engine_ready(self) -> None:
        observed = Observed(artifacts=with_artifacts(a_deployment()).artifacts)
        decided = plan(a_deployment("other"), observed, SETTINGS)
        assert condition(decided, names.ENGINE_READY) == "True/Built"
        assert manifest_of(decided, "Deployment")["metadata"]["name"].startswith("other-")

    def test_artifacts_have_no_owner_so_that_no_deployment_takes_them_along(self) -> None:
        decided = plan(a_deployment(), with_artifacts(a_deployment(), engine="absent"), SETTINGS)
        for action in titles(decided):
            if "NemotronArtifact" in action:
                name = action.split()[2]
                assert "ownerReferences" not in manifest_of(decided, "NemotronArtifact", name)["metadata"]

    def test_a_named_claim_is_used_and_not_made(self) -> None:
        decided = plan(a_deployment(cache={"claimName": "big"}), Observed(), SETTINGS)
        assert not [title for title in titles(decided) if "PersistentVolumeClaim" in title]
        assert manifest_of(decided, "NemotronArtifact")["spec"]["claimName"] == "big"


SILENCE = Load(replicas=3, answered=0, waiting=0, slots_used=0, slots_total=0)


class TestScaling:
    SPEC = a_deployment(scaling={"min": 2, "max": 4})

    def replicas(self, observed: Observed) -> int:
        return int(manifest_of(plan(self.SPEC, observed, SETTINGS), "Deployment")["spec"]["replicas"])

    def test_it_starts_with_the_fewest(self) -> None:
        assert self.replicas(with_artifacts(self.SPEC)) == 2

    def test_load_adds_replicas_up_to_the_most(self) -> None:
        observed = serving(self.SPEC, replicas=2)
        busy = Load(replicas=2, answered=2, waiting=40, slots_used=32, slots_total=32)
        assert self.replicas(replace(observed, load=busy)) == 4

    def test_without_metrics_the_number_is_held(self) -> None:
        observed = replace(serving(self.SPEC, replicas=3), load=SILENCE)
        decided = plan(self.SPEC, observed, SETTINGS)
        assert manifest_of(decided, "Deployment")["spec"]["replicas"] == 3
        assert condition(decided, names.SCALING_ACTIVE) == "False/MetricsMissing"

    def test_before_anybody_was_asked_what_was_said_still_holds(self) -> None:
        observed = serving(self.SPEC, replicas=4)
        said = {**observed.status, "scaling": {"desired": 4, "reason": "AtMax"}}
        decided = plan(self.SPEC, replace(observed, status=said), SETTINGS)
        assert decided.status["scaling"] == said["scaling"]
        assert condition(decided, names.SCALING_ACTIVE) == "True/AtMax"

    def test_a_revision_that_takes_over_takes_the_load_too(self) -> None:
        new = a_deployment(scaling={"min": 2, "max": 4}, image="registry.test/backend:2")
        observed = with_artifacts(new, observed=serving(self.SPEC, replicas=4))
        assert manifest_of(plan(new, observed, SETTINGS), "Deployment")["spec"]["replicas"] == 4

    def test_what_the_load_asks_for_is_in_the_status(self) -> None:
        observed = replace(serving(self.SPEC, replicas=3), load=SILENCE)
        assert plan(self.SPEC, observed, SETTINGS).status["scaling"] == {
            "desired": 3,
            "reason": "MetricsMissing",
        }

    def test_without_scaling_there_is_no_word_of_it(self) -> None:
        decided = plan(a_deployment(), serving(a_deployment()), SETTINGS)
        assert condition(decided, names.SCALING_ACTIVE) == ""
        assert "scaling" not in decided.status


def test_planning_twice_gives_the_same() -> None:
    observed = serving(a_deployment(replicas=2))
    assert plan(a_deployment(replicas=2), observed, SETTINGS) == plan(a_deployment(replicas=2), observed, SETTINGS)


def test_a_failure_stays_in_the_status_while_the_artifact_is_not_ready() -> None:
    failure = {"job": "weights-1", "reason": "ChecksumMismatch", "message": "a.safetensors"}
    observed = with_artifacts(a_deployment(), weights="ChecksumMismatch")
    (view,) = observed.artifacts.values()
    failed = replace(observed, artifacts={view.name: replace(view, last_failure=failure)})
    assert plan(a_deployment(), failed, SETTINGS).status["lastFailure"] == failure


def test_the_body_the_builders_make_is_a_deployment() -> None:
    assert a_body()["spec"]["model"]["name"] == a_deployment().spec.model.name
