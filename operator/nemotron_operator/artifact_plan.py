"""Decide the next step of an artifact's Job and what to say about it; touches nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from nemotron_api import names
from nemotron_api.artifact import NemotronArtifact
from nemotron_api.build import Failure, Success
from nemotron_api.conditions import Condition, false, true
from nemotron_api.reasons import is_known
from nemotron_operator.objects import JOB, NA, Ref
from nemotron_operator.observed import Child, PodView
from nemotron_operator.plan import Action, Create, Delete, Plan
from nemotron_operator.resources import job as job_resource
from nemotron_operator.settings import Settings
from nemotron_operator.status import waiting_reason, was_ready

_LONGEST_RETRY_SECONDS = 600.0
_OOM_EXIT_CODE = 137


@dataclass(frozen=True, slots=True)
class JobView:
    """One attempt."""

    name: str
    attempt: int
    succeeded: bool
    failed: bool
    finished_at: float
    """Seconds since the epoch; 0 while it runs."""
    failure: str
    """Why the Job controller gave up, in its words."""


@dataclass(frozen=True, slots=True)
class ObservedArtifact:
    jobs: tuple[JobView, ...] = ()
    pods: tuple[PodView, ...] = ()
    is_referenced: bool = True
    """Whether a deployment of the namespace needs it."""
    is_outdated: bool = False
    """Whether no deployment that needs it would make it this way any more: another image, more memory, another node."""
    is_ours: bool = True
    """Whether the operator made it; what a user made by hand is never deleted."""
    log_tail: str = ""
    """End of the latest failed attempt's log."""
    status: Mapping[str, Any] | None = None

    @property
    def is_ready(self) -> bool:
        return was_ready(self.status or {})

    @property
    def latest(self) -> JobView | None:
        return max(self.jobs, key=lambda job: job.attempt, default=None)

    def pod_of(self, job: JobView) -> PodView | None:
        return next((pod for pod in self.pods if pod.job == job.name), None)


def job_view(child: Child, epoch: Any) -> JobView:
    """Read a Job.

    Args:
        epoch: turns an RFC 3339 time into seconds since the epoch.
    """
    status = child.live.get("status", {})
    ended = {c["type"]: c for c in status.get("conditions", ()) if c["status"] == "True"}
    end = ended.get("Complete") or ended.get("Failed") or {}
    return JobView(
        name=child.ref.name,
        attempt=int(child.ref.name.rsplit("-", 1)[1]),
        succeeded="Complete" in ended,
        failed="Failed" in ended,
        finished_at=epoch(end["lastTransitionTime"]) if end else 0.0,
        failure=ended.get("Failed", {}).get("message", ""),
    )


def plan_artifact(artifact: NemotronArtifact, observed: ObservedArtifact, settings: Settings, now: float) -> Plan:
    """The Job to start or to forget, and the artifact's status."""
    status = dict(observed.status or {})
    status.pop("conditions", None)
    if observed.is_ready:
        return Plan((), _kept_condition(observed), status)
    if observed.is_ours and (not observed.is_referenced or (observed.is_outdated and not _is_at_work(observed))):
        return Plan((Delete(Ref(NA.kind, artifact.namespace, artifact.name)),), (), status)
    if (meant := artifact.request.fingerprint) != artifact.spec.fingerprint:
        why = f"spec.fingerprint is not the request's, which is {meant}: create another artifact with that one."
        return Plan((), (false(names.READY, "InvalidSpec", why),), status)
    latest = observed.latest
    if latest is None:
        # A Job that was made may not be seen yet: under another number there would be two at work.
        return _start(artifact, observed, settings, status, max(1, int(status.get("attempts", 0))))
    status |= {"attempts": max(latest.attempt, int(status.get("attempts", 0))), "job": latest.name}
    if latest.succeeded:
        return _ended(artifact, observed, latest, settings, status, now)
    if latest.failed:
        return _failed(artifact, observed, latest, settings, status, now)
    return Plan((), (_running(artifact, observed.pod_of(latest)),), status)


def hindered(observed: ObservedArtifact, reason: str, why: str) -> Plan:
    """What is left when the Job cannot be made: the status as it was, with the reason."""
    status = {key: value for key, value in (observed.status or {}).items() if key != "conditions"}
    return Plan((), (false(names.READY, reason, why),), status, again_in=30.0)


def _is_at_work(observed: ObservedArtifact) -> bool:
    latest = observed.latest
    pod = observed.pod_of(latest) if latest and not latest.failed else None
    return pod is not None and pod.phase != "Pending"


def _kept_condition(observed: ObservedArtifact) -> tuple[Condition, ...]:
    conditions = (observed.status or {}).get("conditions", ())
    return tuple(Condition(c["type"], c["status"], c["reason"], c["message"]) for c in conditions)


def _start(
    artifact: NemotronArtifact, observed: ObservedArtifact, settings: Settings, status: dict[str, Any], attempt: int
) -> Plan:
    job = job_resource.build(artifact, attempt, settings)
    status |= {"attempts": attempt, "job": job["metadata"]["name"]}
    old: tuple[Action, ...] = tuple(Delete(Ref(JOB.kind, artifact.namespace, j.name)) for j in observed.jobs)
    queued = false(names.READY, "Queued", f"Job {job['metadata']['name']} is created.")
    return Plan((*old, Create(job)), (queued,), status)


def _running(artifact: NemotronArtifact, pod: PodView | None) -> Condition:
    if pod is None or pod.phase == "Pending":
        reason = waiting_reason(pod.waiting) if pod else ""
        if pod and reason:
            return false(names.READY, reason, f"{pod.ref.name}: {pod.waiting[0]}: {pod.waiting[1]}")
        if pod and pod.unschedulable:
            return false(names.READY, "Unschedulable", f"The scheduler says: {pod.unschedulable}")
        return false(names.READY, "Queued", "The Job's pod is being started.")
    if artifact.spec.kind == "Weights":
        return false(names.READY, "Fetching", "The Job copies and verifies the weights.")
    return false(names.READY, "Building", "The Job builds the engine.")


def _ended(
    artifact: NemotronArtifact,
    observed: ObservedArtifact,
    job: JobView,
    settings: Settings,
    status: dict[str, Any],
    now: float,
) -> Plan:
    pod = observed.pod_of(job)
    success = _success(pod)
    if success is None or success.fingerprint != artifact.spec.fingerprint:
        # Its pod was deleted before its message was read, or it spoke of something else: the store knows, ask again.
        return _retry(artifact, observed, job, settings, status, now, false(names.READY, "Queued", "Asking again."))
    status.pop("lastFailure", None)
    status |= {
        "manifestSha256": success.manifest_sha256,
        "digest": success.digest,
        "bytes": success.bytes,
        "seconds": success.seconds,
        "record": success.record or None,
    }
    status = {key: value for key, value in status.items() if value is not None}
    return Plan((), (_made(artifact, success),), status)


def _made(artifact: NemotronArtifact, success: Success) -> Condition:
    size = f"{success.bytes / 1e6:,.1f} MB"
    if artifact.spec.kind == "Weights":
        return true(names.READY, "Verified", f"{size}, {success.digest}, in {success.seconds:.0f} s.")
    return true(names.READY, "Built", f"{size}, generated in its smoke test, in {success.seconds:.0f} s.")


def _success(pod: PodView | None) -> Success | None:
    try:
        # Another version's Job may say more than this operator knows.
        return Success.model_validate_json(pod.ended[2], extra="ignore") if pod and pod.ended else None
    except ValidationError:
        return None


def _failed(
    artifact: NemotronArtifact,
    observed: ObservedArtifact,
    job: JobView,
    settings: Settings,
    status: dict[str, Any],
    now: float,
) -> Plan:
    pod = observed.pod_of(job)
    failure = _failure(job, pod)
    last: dict[str, Any] = {"job": job.name, "reason": failure.reason, "message": failure.message}
    if pod and pod.ended:
        last["exitCode"] = pod.ended[0]
    if observed.log_tail:
        last["logTail"] = observed.log_tail
    status["lastFailure"] = last
    wait = _back_off(job.attempt, settings)
    message = f"{failure.message} (attempt {job.attempt}; the next one {wait:.0f} s after this)"
    return _retry(artifact, observed, job, settings, status, now, false(names.READY, failure.reason, message))


def _failure(job: JobView, pod: PodView | None) -> Failure:
    """What the Job said when it ended, else what its end tells."""
    if pod is None or pod.ended is None:
        return Failure(reason="InternalError", message=job.failure or "The Job's pod is gone; its message is lost.")
    code, reason, message = pod.ended
    try:
        told = Failure.model_validate_json(message, extra="ignore")
        if is_known(names.ENGINE_READY, "False", told.reason):
            return told
        return Failure(reason="InternalError", message=f"{told.reason}: {told.message}")
    except ValidationError:
        pass
    if reason == "OOMKilled" or code == _OOM_EXIT_CODE:
        return Failure(reason="OutOfMemory", message="The Job was killed for memory: raise runtime.resources.memory.")
    return Failure(reason="InternalError", message=message or f"The Job ended with code {code} ({reason}).")


def _retry(
    artifact: NemotronArtifact,
    observed: ObservedArtifact,
    job: JobView,
    settings: Settings,
    status: dict[str, Any],
    now: float,
    condition: Condition,
) -> Plan:
    """Start the next attempt once the back-off is over; until then say why the last one failed."""
    left = job.finished_at + _back_off(job.attempt, settings) - now
    if left > 0:
        return Plan((), (condition,), status, again_in=left)
    next_one = _start(artifact, observed, settings, status, job.attempt + 1)
    # The reason stays visible until the next attempt says something new.
    return Plan(next_one.actions, (condition,), dict(next_one.status))


def _back_off(attempt: int, settings: Settings) -> float:
    # A week of failures makes more doublings than a float can hold.
    doublings = min(attempt - 1, 30)
    return float(min(settings.retry_base_seconds * 2**doublings, _LONGEST_RETRY_SECONDS))
