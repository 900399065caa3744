"""An artifact's Job: started, watched, tried again, and its words brought to the status."""

import json
from dataclasses import replace
from typing import Any

import pytest

from nemotron_api import names
from nemotron_api.reasons import is_known
from nemotron_operator.artifact_plan import JobView, ObservedArtifact, plan_artifact
from nemotron_operator.observed import PodView
from nemotron_operator.plan import Plan
from tests.builders.operator import (
    SETTINGS,
    a_job,
    a_pod,
    a_success,
    an_artifact,
    condition,
    manifest_of,
    message,
    titles,
)

pytestmark = pytest.mark.unit

ARTIFACT = an_artifact()
NAME = ARTIFACT.name
READY_STATUS = {
    "attempts": 1,
    "job": f"{NAME}-1",
    "manifestSha256": "ab",
    "digest": "sha256:ab",
    "bytes": 4,
    "conditions": [
        {"type": names.READY, "status": "True", "reason": "Verified", "message": "4 MB", "observedGeneration": 1}
    ],
}


def decide(observed: ObservedArtifact, now: float = 1000.0) -> Plan:
    return plan_artifact(ARTIFACT, observed, SETTINGS, now)


def job_pod(job: JobView, *, exit_code: int = 0, reason: str = "Completed", text: str = "", **changed: Any) -> PodView:
    return a_pod(job=job.name, phase="Succeeded", ended=(exit_code, reason, text), **changed)


def failing(text: str, *, exit_code: int = 1, reason: str = "Error", attempt: int = 1) -> ObservedArtifact:
    job = a_job(ARTIFACT, attempt, ended="Failed", at=1000.0, why="Job has reached the specified backoff limit")
    return ObservedArtifact(jobs=(job,), pods=(job_pod(job, exit_code=exit_code, reason=reason, text=text),))


class TestStart:
    def test_a_new_artifact_starts_its_first_job(self) -> None:
        decided = decide(ObservedArtifact())
        assert titles(decided) == [f"create Job {NAME}-1"]
        assert condition(decided, names.READY) == "False/Queued"
        assert decided.status == {"attempts": 1, "job": f"{NAME}-1"}

    def test_a_job_that_is_there_is_not_started_again(self) -> None:
        assert decide(ObservedArtifact(jobs=(a_job(ARTIFACT),))).actions == ()

    def test_a_job_that_was_made_and_is_not_seen_is_made_under_its_own_number(self) -> None:
        # given that its creation was not heard of yet, or that somebody deleted it
        decided = decide(ObservedArtifact(status={"attempts": 3, "job": f"{NAME}-3"}))
        assert titles(decided) == [f"create Job {NAME}-3"]

    def test_an_operator_killed_between_job_and_status_goes_on_with_that_job(self) -> None:
        decided = decide(ObservedArtifact(jobs=(a_job(ARTIFACT, 2),), status={"attempts": 1}))
        assert decided.actions == ()
        assert decided.status["attempts"] == 2

    def test_the_job_carries_the_request_and_runs_once(self) -> None:
        job = manifest_of(decide(ObservedArtifact()), "Job")
        assert job["spec"]["backoffLimit"] == 0
        command = job["spec"]["template"]["spec"]["containers"][0]["command"]
        request = json.loads(command[command.index("--request") + 1])
        assert request == ARTIFACT.request.to_dict()


class TestRunning:
    @pytest.mark.parametrize(
        ("pod", "expected", "says"),
        [
            pytest.param(None, "Queued", "being started", id="no-pod-yet"),
            pytest.param({"phase": "Pending"}, "Queued", "being started", id="pending"),
            pytest.param({"phase": "Running"}, "Fetching", "copies and verifies", id="running"),
            pytest.param(
                {"phase": "Pending", "unschedulable": "0/3 nodes are available"},
                "Unschedulable",
                "0/3 nodes are available",
                id="no-node",
            ),
            pytest.param(
                {"phase": "Pending", "waiting": ("CreateContainerConfigError", 'secret "hf" not found')},
                "SecretMissing",
                'secret "hf" not found',
                id="no-secret",
            ),
            pytest.param(
                {"phase": "Pending", "waiting": ("ErrImagePull", "manifest unknown")},
                "ImageUnavailable",
                "manifest unknown",
                id="no-image",
            ),
        ],
    )
    def test_the_pod_says_how_far_it_is(self, pod: dict[str, Any] | None, expected: str, says: str) -> None:
        job = a_job(ARTIFACT)
        pods = (a_pod(job=job.name, **pod),) if pod else ()
        decided = decide(ObservedArtifact(jobs=(job,), pods=pods))
        assert condition(decided, names.READY) == f"False/{expected}"
        assert says in message(decided, names.READY)
        assert decided.actions == ()


class TestSuccess:
    def ended(self, text: str) -> ObservedArtifact:
        job = a_job(ARTIFACT, ended="Complete", at=1000.0)
        return ObservedArtifact(jobs=(job,), pods=(job_pod(job, text=text),))

    def test_what_the_job_said_goes_to_the_status(self) -> None:
        success = a_success(ARTIFACT, record={"parameters": 5})
        decided = decide(self.ended(success.to_json()))
        assert condition(decided, names.READY) == "True/Verified"
        assert decided.status["manifestSha256"] == success.manifest_sha256
        assert decided.status["digest"] == success.digest
        assert decided.status["record"] == {"parameters": 5}
        assert decided.actions == ()

    def test_a_success_after_failures_forgets_the_last_failure(self) -> None:
        observed = replace(self.ended(a_success(ARTIFACT).to_json()), status={"lastFailure": {"reason": "VolumeFull"}})
        assert "lastFailure" not in decide(observed).status

    @pytest.mark.parametrize(
        "text",
        ["", "done!", "{}", "[]", "null", '{"reason":"VolumeFull","message":"…"}', a_success(ARTIFACT).to_json()[:-9]],
    )
    def test_without_a_readable_message_the_store_is_asked_again_later(self, text: str) -> None:
        early = decide(self.ended(text), now=1001.0)
        assert early.actions == ()
        assert condition(early, names.READY).startswith("False/")
        assert early.again_in == pytest.approx(9.0)
        assert f"create Job {NAME}-2" in titles(decide(self.ended(text), now=1010.0))

    def test_a_success_of_something_else_is_none(self) -> None:
        other = a_success(ARTIFACT, fingerprint="f" * 64)
        assert condition(decide(self.ended(other.to_json())), names.READY).startswith("False/")

    def test_a_newer_builder_may_say_more(self) -> None:
        newer = {**a_success(ARTIFACT).to_dict(), "node": "a"}
        assert condition(decide(self.ended(json.dumps(newer))), names.READY) == "True/Verified"

    def test_a_pod_that_is_gone_took_its_message_along(self) -> None:
        observed = replace(self.ended(""), pods=())
        assert f"create Job {NAME}-2" in titles(decide(observed, now=2000.0))


class TestFailure:
    @pytest.mark.parametrize(
        ("observed", "reason", "says"),
        [
            pytest.param(
                failing('{"reason":"ChecksumMismatch","message":"a.safetensors is not what was promised"}'),
                "ChecksumMismatch",
                "a.safetensors is not what was promised",
                id="its-own-words",
            ),
            pytest.param(failing("", exit_code=137, reason="OOMKilled"), "OutOfMemory", "memory", id="out-of-memory"),
            pytest.param(failing("", exit_code=137), "OutOfMemory", "memory", id="killed-like-out-of-memory"),
            pytest.param(failing("Traceback…"), "InternalError", "Traceback…", id="garbage"),
            pytest.param(failing("null"), "InternalError", "null", id="json-that-is-no-object"),
            pytest.param(failing('{"reason": 3}'), "InternalError", '{"reason": 3}', id="json-of-another-shape"),
            pytest.param(failing("", exit_code=2), "InternalError", "code 2 (Error)", id="silence"),
            pytest.param(
                replace(failing(""), pods=()),
                "InternalError",
                "Job has reached the specified backoff limit",
                id="pod-gone",
            ),
            pytest.param(
                failing('{"reason":"NoSuchReason","message":"from a newer builder"}'),
                "InternalError",
                "NoSuchReason: from a newer builder",
                id="a-reason-that-is-not-in-the-catalogue",
            ),
            pytest.param(
                failing('{"reason":"not a reason at all!","message":"…"}'),
                "InternalError",
                "not a reason at all!",
                id="a-reason-the-api-server-would-refuse",
            ),
            pytest.param(
                failing('{"reason":"VolumeFull","message":""}'), "VolumeFull", "attempt 1", id="a-reason-without-a-word"
            ),
        ],
    )
    def test_the_end_is_translated(self, observed: ObservedArtifact, reason: str, says: str) -> None:
        decided = decide(observed)
        assert condition(decided, names.READY) == f"False/{reason}"
        assert says in message(decided, names.READY)
        assert decided.status["lastFailure"]["reason"] == reason
        assert is_known(names.WEIGHTS_READY, "False", reason)

    def test_the_exit_code_and_the_logs_end_are_kept(self) -> None:
        observed = replace(
            failing('{"reason":"VolumeFull","message":"5 GiB short"}', exit_code=4), log_tail="…no space"
        )
        assert decide(observed).status["lastFailure"] == {
            "job": f"{NAME}-1",
            "reason": "VolumeFull",
            "message": "5 GiB short",
            "exitCode": 4,
            "logTail": "…no space",
        }

    @pytest.mark.parametrize(("attempt", "wait"), [(1, 10), (2, 20), (3, 40), (6, 320), (7, 600), (50, 600)])
    def test_the_next_attempt_waits_twice_as_long_up_to_ten_minutes(self, attempt: int, wait: float) -> None:
        observed = failing("", attempt=attempt)
        early = decide(observed, now=1000.0 + wait - 1)
        assert early.actions == ()
        assert early.again_in == pytest.approx(1.0)
        assert f"create Job {NAME}-{attempt + 1}" in titles(decide(observed, now=1000.0 + wait))

    def test_the_reason_stays_visible_while_the_next_attempt_starts(self) -> None:
        decided = decide(failing('{"reason":"VolumeFull","message":"…"}'), now=5000.0)
        assert condition(decided, names.READY) == "False/VolumeFull"
        assert decided.status["attempts"] == 2
        assert decided.status["job"] == f"{NAME}-2"

    def test_an_attempt_beyond_every_number_still_has_a_back_off(self) -> None:
        assert decide(failing("", attempt=5000), now=1000.0).again_in == pytest.approx(600.0)


class TestReferences:
    def test_unreferenced_and_unfinished_is_deleted(self) -> None:
        for observed in (ObservedArtifact(), ObservedArtifact(jobs=(a_job(ARTIFACT),)), failing("")):
            assert titles(decide(replace(observed, is_referenced=False))) == [f"delete NemotronArtifact {NAME}"]

    def test_finished_is_kept_for_the_next_who_needs_it(self) -> None:
        assert decide(ObservedArtifact(is_referenced=False, status=READY_STATUS)).actions == ()

    def test_what_a_user_made_is_never_deleted(self) -> None:
        decided = decide(ObservedArtifact(is_referenced=False, is_ours=False))
        assert titles(decided) == [f"create Job {NAME}-1"]


class TestOutdated:
    """The spec was mended: an artifact cannot change, so one that gets nowhere makes room for one made as asked now."""

    GOING = replace(a_pod(job=f"{NAME}-1"), phase="Running")

    @pytest.mark.parametrize(
        "observed",
        [
            pytest.param(failing("", exit_code=137, reason="OOMKilled"), id="too-little-memory-was-mended"),
            pytest.param(
                ObservedArtifact(
                    jobs=(a_job(ARTIFACT),),
                    pods=(a_pod(job=f"{NAME}-1", phase="Pending", waiting=("ErrImagePull", "no such image")),),
                ),
                id="a-wrong-image-was-mended",
            ),
            pytest.param(ObservedArtifact(jobs=(a_job(ARTIFACT),)), id="no-pod-yet"),
            pytest.param(ObservedArtifact(), id="no-job-yet"),
        ],
    )
    def test_what_gets_nowhere_makes_room(self, observed: ObservedArtifact) -> None:
        assert titles(decide(replace(observed, is_outdated=True))) == [f"delete NemotronArtifact {NAME}"]

    def test_a_job_that_runs_is_left_to_finish(self) -> None:
        observed = ObservedArtifact(jobs=(a_job(ARTIFACT),), pods=(self.GOING,), is_outdated=True)
        assert decide(observed).actions == ()

    def test_what_is_ready_or_a_users_stays(self) -> None:
        assert decide(ObservedArtifact(is_outdated=True, status=READY_STATUS)).actions == ()
        assert decide(replace(failing(""), is_outdated=True, is_ours=False)).actions == ()


@pytest.mark.parametrize(
    "observed",
    [
        pytest.param(ObservedArtifact(), id="job-expired"),
        pytest.param(ObservedArtifact(jobs=(a_job(ARTIFACT),)), id="job-runs-again"),
        pytest.param(failing("boom"), id="job-failed-after"),
        pytest.param(ObservedArtifact(is_referenced=False), id="nobody-needs-it"),
    ],
)
def test_ready_stays_ready_whatever_happens_to_jobs(observed: ObservedArtifact) -> None:
    decided = decide(replace(observed, status=READY_STATUS), now=9e9)
    assert decided.actions == ()
    assert condition(decided, names.READY) == "True/Verified"
    assert dict(decided.status) == {key: value for key, value in READY_STATUS.items() if key != "conditions"}


def test_a_fingerprint_that_is_not_the_requests_is_refused_before_a_job_runs_for_nothing() -> None:
    forged = an_artifact(fingerprint="0" * 64)
    decided = plan_artifact(forged, ObservedArtifact(is_ours=False), SETTINGS, 0.0)
    assert decided.actions == ()
    assert condition(decided, names.READY) == "False/InvalidSpec"
    assert ARTIFACT.request.fingerprint in message(decided, names.READY)


def test_planning_twice_gives_the_same() -> None:
    assert decide(failing("boom")) == decide(failing("boom"))
