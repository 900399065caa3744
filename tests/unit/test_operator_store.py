"""The store: newer knowledge wins, whatever brings it, in whatever order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api import names
from nemotron_operator.objects import Manifest, Ref
from nemotron_operator.observed import Child, PodView, Workload
from nemotron_operator.store import Key, Store
from tests.builders.operator import NAMESPACE, a_body

pytestmark = pytest.mark.unit

KEY = Key(names.DEPLOYMENT_KIND, NAMESPACE, "nano")


def an_object(
    kind: str = "Service", name: str = "nano", *, version: int = 1, owner: str = "uid-of-nano", **more: Any
) -> Manifest:
    labels = {names.NAME_LABEL: "nano", names.MANAGED_BY: names.FIELD_MANAGER}
    owners = [{"uid": owner, "controller": True, "kind": names.DEPLOYMENT_KIND, "name": "nano"}] if owner else []
    meta = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": f"uid-of-{kind}-{name}",
        "resourceVersion": str(version),
        "labels": labels,
        "ownerReferences": owners,
        **more.pop("metadata", {}),
    }
    return {"kind": kind, "metadata": meta, "spec": {}, **more}


def a_pod_body(name: str = "pod", *, version: int = 1, labels: dict[str, str] | None = None) -> Manifest:
    body = an_object("Pod", name, version=version, status={"phase": "Running"})
    body["metadata"]["labels"] = {names.NAME_LABEL: "nano"} if labels is None else labels
    return body


def names_of(store: Store) -> list[str]:
    return sorted(ref.name for ref in store.observe(KEY, a_body(), "claim").children)


class TestOrder:
    def test_an_older_event_than_our_own_write_is_ignored(self) -> None:
        store = Store()
        store.put(an_object(version=7))
        assert store.put(an_object(version=6)) == frozenset()
        assert store.put(an_object(version=7)) == frozenset()

    def test_an_event_that_is_news_marks_its_deployment(self) -> None:
        store = Store()
        assert store.put(an_object(version=7)) == {KEY}
        assert store.put(an_object(version=8)) == {KEY}

    def test_versions_are_numbers_not_text(self) -> None:
        store = Store()
        store.put(an_object(version=9))
        assert store.put(an_object(version=10)) == {KEY}

    def test_a_deleted_object_is_forgotten(self) -> None:
        store = Store()
        store.put(an_object(version=7))
        assert store.drop(an_object(version=8)) == {KEY}
        assert names_of(store) == []
        assert not store.knows(Ref("Service", NAMESPACE, "nano"))

    def test_an_object_made_anew_outlives_the_old_ones_end(self) -> None:
        store = Store()
        store.put(an_object(version=7))
        store.put(an_object(version=9))
        assert store.drop(an_object(version=8)) == frozenset()
        assert names_of(store) == ["nano"]

    def test_an_object_made_anew_after_its_end_is_known_again(self) -> None:
        store = Store()
        store.put(an_object(version=7))
        store.drop(an_object(version=8))
        assert store.put(an_object(version=9)) == {KEY}

    @given(order=st.permutations([("put", 3), ("drop", 4), ("put", 5), ("put", 6)]))
    def test_the_newest_word_wins_in_every_order(self, order: list[tuple[str, int]]) -> None:
        store = Store()
        for verb, version in order:
            getattr(store, verb)(an_object(version=version))
        # An end that is told after a newer life must not end that life.
        assert names_of(store) == ["nano"]


class TestOwners:
    def test_a_child_that_changes_hands_leaves_its_old_owner(self) -> None:
        store = Store()
        store.put(an_object(version=1))
        store.put(an_object(version=2, owner="uid-of-other"))
        assert names_of(store) == []
        store.drop(an_object(version=3, owner="uid-of-other"))
        assert names_of(store) == []

    def test_a_job_that_changes_hands_is_nobodys_stale_job(self) -> None:
        store = Store()
        store.put(an_object("Job", "nano-1", version=1))
        store.put(an_object("Job", "nano-1", version=2, owner=""))
        store.drop(an_object("Job", "nano-1", version=3, owner=""))
        assert store.jobs("uid-of-nano") == []

    def test_the_controlling_owner_counts(self) -> None:
        body = an_object()
        body["metadata"]["ownerReferences"].insert(0, {"uid": "uid-of-an-app", "kind": "Application", "name": "app"})
        assert Child.of(body).owner == "uid-of-nano"


class TestPods:
    def test_a_pod_that_is_gone_is_not_counted(self) -> None:
        store = Store()
        store.put(a_pod_body(version=1))
        assert len(store.pods(KEY)) == 1
        store.drop(a_pod_body(version=2))
        assert store.pods(KEY) == ()

    def test_a_pod_somebody_relabelled_is_not_ours_any_more(self) -> None:
        store = Store()
        store.put(a_pod_body(version=1))
        store.put(a_pod_body(version=2, labels={names.NAME_LABEL: "debug"}))
        assert store.pods(KEY) == ()

    def test_pods_of_other_namespaces_are_not_ours(self) -> None:
        store = Store()
        store.put(a_pod_body())
        assert store.pods(Key(KEY.kind, "elsewhere", "nano")) == ()


class TestMarks:
    def test_a_deployment_marks_the_artifacts_that_may_have_lost_their_last_user(self) -> None:
        store = Store()
        artifact = an_object(names.ARTIFACT_KIND, "weights-1", owner="")
        store.put(artifact)
        artifact_key = Key(names.ARTIFACT_KIND, NAMESPACE, "weights-1")
        assert store.put(a_body()) == {KEY, artifact_key}
        assert store.drop({**a_body(), "metadata": {**a_body()["metadata"], "resourceVersion": "5"}}) == {
            KEY,
            artifact_key,
        }

    def test_an_artifact_marks_the_deployments_of_its_namespace(self) -> None:
        store = Store()
        store.put(a_body())
        assert KEY in store.put(an_object(names.ARTIFACT_KIND, "weights-1", owner=""))

    def test_a_claim_marks_the_deployments_of_its_namespace(self) -> None:
        store = Store()
        store.put(a_body())
        claim = an_object("PersistentVolumeClaim", "big", owner="", spec={"accessModes": ["ReadWriteOnce"]})
        claim["metadata"].pop("labels")
        assert store.put(claim) == {KEY}
        assert store.observe(KEY, a_body(), "big").claim_modes == ("ReadWriteOnce",)
        assert store.observe(KEY, a_body(), "other").claim_modes is None

    def test_a_child_whose_labels_were_changed_still_marks_its_owner(self) -> None:
        body = an_object()
        body["metadata"]["labels"] = {names.NAME_LABEL: "other"}
        assert Store().put(body) == {KEY}

    def test_somebody_elses_object_marks_nothing(self) -> None:
        body = an_object(owner="")
        body["metadata"].pop("labels")
        assert Store().put(body) == frozenset()


class TestLists:
    """A watch that was away lists again, and a list says nothing of what is gone."""

    def test_what_is_not_on_the_list_is_gone(self) -> None:
        store = Store()
        store.put(an_object(name="kept", version=1))
        store.put(an_object(name="gone", version=2))
        before = store.versions("Service")
        assert store.drop_unlisted(before, [Ref("Service", NAMESPACE, "kept")])
        assert names_of(store) == ["kept"]
        assert not store.drop_unlisted(store.versions("Service"), [Ref("Service", NAMESPACE, "kept")])

    def test_what_came_after_the_list_was_asked_for_is_not_gone(self) -> None:
        store = Store()
        store.put(an_object(name="again", version=1))
        before = store.versions("Service")
        store.put(an_object(name="new", version=3))
        store.put(an_object(name="again", version=4))
        assert not store.drop_unlisted(before, [])
        assert names_of(store) == ["again", "new"]

    def test_a_list_speaks_of_its_kind_only(self) -> None:
        store = Store()
        store.put(an_object("ConfigMap"))
        assert not store.drop_unlisted(store.versions("Service"), [])


def test_what_was_learnt_of_a_key_goes_with_it() -> None:
    store = Store()
    store.written_at[KEY] = 1.0
    store.wanted[KEY] = ((1.0, 1),)
    store.forget(KEY)
    assert KEY not in store.written_at
    assert KEY not in store.wanted


def test_managed_fields_are_not_kept() -> None:
    body = an_object(metadata={"managedFields": [{"manager": "kubectl"}]})
    assert b"managedFields" not in Child.of(body).body


class TestPodView:
    def view(self, **status: Any) -> PodView:
        return PodView.of({**a_pod_body(), "status": status})

    def test_an_empty_status_is_a_pending_pod(self) -> None:
        view = self.view()
        assert (view.phase, view.ready, view.ip, view.waiting, view.ended) == ("Pending", False, "", ("", ""), None)

    @pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
    def test_a_container_that_starts_is_not_stuck(self, reason: str) -> None:
        assert self.view(containerStatuses=[{"state": {"waiting": {"reason": reason}}}]).waiting == ("", "")

    def test_what_a_crashed_container_said_is_read_from_its_last_life(self) -> None:
        container = {
            "restartCount": 2,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
            "lastState": {"terminated": {"exitCode": 3, "reason": "Error", "message": "EngineMismatch"}},
        }
        view = self.view(containerStatuses=[container])
        assert view.waiting == ("CrashLoopBackOff", "back-off")
        assert view.ended == (3, "Error", "EngineMismatch")
        assert view.restarts == 2


class TestWorkload:
    def of(self, **status: Any) -> Workload:
        body = an_object("Deployment", "nano-1", metadata={"generation": 4}, spec={"replicas": 5}, status=status)
        return Workload.of(Child.of(body))

    def test_replicas_of_a_generation_the_controller_has_not_seen_yet_are_still_there(self) -> None:
        assert self.of(observedGeneration=3, availableReplicas=2).available == 2

    def test_a_new_deployment_has_none(self) -> None:
        assert self.of().available == 0

    def test_a_passed_deadline_is_seen(self) -> None:
        assert self.of(conditions=[{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}]).stalled
        assert not self.of(conditions=[{"type": "Progressing", "reason": "NewReplicaSetAvailable"}]).stalled
