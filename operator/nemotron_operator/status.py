"""Say what is true of a deployment: its conditions and the rest of its status."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nemotron_api import names
from nemotron_api.conditions import Condition, false, true
from nemotron_api.deployment import NemotronDeployment
from nemotron_api.status import Resolved, ScalingStatus
from nemotron_operator.checks import Finding
from nemotron_operator.observed import ArtifactView, Observed, PodView

if TYPE_CHECKING:
    from nemotron_operator.plan import Situation

_WAITING_REASONS = {
    "CreateContainerConfigError": "SecretMissing",
    "ErrImagePull": "ImageUnavailable",
    "ImagePullBackOff": "ImageUnavailable",
    "ErrImageNeverPull": "ImageUnavailable",
    "InvalidImageName": "ImageUnavailable",
    "CrashLoopBackOff": "PodsCrashing",
}


def was_ready(status: Mapping[str, Any]) -> bool:
    return any(c["type"] == names.READY and c["status"] == "True" for c in status.get("conditions", ()))


def waiting_reason(waiting: tuple[str, str]) -> str:
    """The catalogue's word for a kubelet's reason; empty when the container merely starts."""
    return _WAITING_REASONS.get(waiting[0], "")


def rejected(finding: Finding) -> tuple[Condition, ...]:
    return (
        false(names.ACCEPTED, finding.reason, finding.message),
        false(names.READY, finding.reason, finding.message),
    )


def of_rejected(deployment: NemotronDeployment, observed: Observed) -> dict[str, Any]:
    """What still serves is still reported."""
    kept = ("selector", "revision", "servingRevision", "url", "resolved")
    told = sum(workload.replicas for workload in observed.workloads)
    routable = sum(workload.available for workload in observed.workloads)
    return {key: observed.status[key] for key in kept if key in observed.status} | {
        "replicas": told,
        "routableReplicas": routable,
    }


def conditions(seen: Situation) -> tuple[Condition, ...]:
    """Every condition that applies, Ready last: it repeats the first that is not true."""
    accepted = true(names.ACCEPTED, "Resolved", "The spec is valid; see status.resolved for what it left open.")
    stages = [accepted, _weights(seen), _engine(seen)]
    if capacity := _capacity(seen):
        stages.append(capacity)
    available = _available(seen)
    progressing = _progressing(seen)
    scaling = [_scaling(seen)] if seen.deployment.spec.scaling else []
    return (*stages, available, progressing, *scaling, _ready(seen, (*stages, available), progressing))


def _weights(seen: Situation) -> Condition:
    return _of_artifact(names.WEIGHTS_READY, seen.weights, seen.resolution.weights_name)


def _engine(seen: Situation) -> Condition:
    if not seen.resolution.engine or not (seen.weights and seen.weights.ready):
        return false(names.ENGINE_READY, "WaitingForWeights", "The engine is built once the weights are verified.")
    return _of_artifact(names.ENGINE_READY, seen.engine, seen.resolution.engine_name)


def _of_artifact(type_: str, view: ArtifactView | None, name: str) -> Condition:
    if view is None:
        return false(type_, "Queued", f"NemotronArtifact {name} is being created.")
    message = view.message if view.ready else f"NemotronArtifact {name}: {view.message}"
    return (true if view.ready else false)(type_, view.reason, message)


def _target_pods(seen: Situation) -> Iterator[PodView]:
    revision = seen.resolution.revision
    return (pod for pod in seen.observed.pods if pod.revision == revision and not pod.deleting)


def _capacity(seen: Situation) -> Condition | None:
    pods = list(_target_pods(seen))
    if not seen.resolution.revision or not pods:
        return None
    message = next((pod.unschedulable for pod in pods if pod.unschedulable), "")
    if not message:
        return true(names.CAPACITY_AVAILABLE, "Fits", "Every pod of the revision has a node.")
    reason = "InsufficientGpu" if "Insufficient nvidia.com/gpu" in message else "Unschedulable"
    return false(names.CAPACITY_AVAILABLE, reason, f"The scheduler says: {message}")


def _available(seen: Situation) -> Condition:
    needed = max(1, seen.deployment.min_available)
    if seen.routable >= needed:
        # No count here: it would change, and be written, with every replica that comes and goes.
        message = f"At least {needed} of the replicas generated a token and are ready endpoints."
        return true(names.AVAILABLE, "MinimumReplicasRoutable", message)
    if not seen.revision:
        return false(names.AVAILABLE, "WaitingForEngine", "There is nothing to serve until the engine is built.")
    if seen.scaling.replicas == 0:
        return false(names.AVAILABLE, "ScaledToZero", "replicas is 0: raise it to serve.")
    return false(names.AVAILABLE, *_why_pods_are_not_ready(list(_target_pods(seen)), needed))


def _why_pods_are_not_ready(pods: list[PodView], needed: int) -> tuple[str, str]:
    for pod in pods:
        if reason := waiting_reason(pod.waiting):
            ended = f" It ended with code {pod.ended[0]}: {pod.ended[2] or pod.ended[1]}" if pod.ended else ""
            return reason, f"{pod.ref.name}: {pod.waiting[0]}: {pod.waiting[1]}{ended}".strip()
    if any(pod.phase == "Running" for pod in pods):
        return "LoadingModel", f"Pods load the model; {needed} must be routable."
    return "PodsPending", "Pods are being scheduled and started."


def _progressing(seen: Situation) -> Condition:
    target = seen.target
    if not seen.revision:
        return false(names.PROGRESSING, "Blocked", "Nothing is rolled out before the engine is ready.")
    if target and target.stalled and not seen.target_is_complete:
        limit = seen.deployment.progress_deadline_seconds
        message = f"Revision {seen.revision.name} did not become available within {limit} s; see its pods."
        return false(names.PROGRESSING, "DeadlineExceeded", message)
    if seen.others or target is None or (seen.scaling.replicas and not seen.is_proven):
        return true(names.PROGRESSING, "NewRevision", f"Revision {seen.revision.name} is being brought up.")
    if target.available != seen.scaling.replicas:
        return true(names.PROGRESSING, "Scaling", f"Going to {seen.scaling.replicas} replicas.")
    return false(names.PROGRESSING, "Complete", f"Revision {seen.revision.name} serves alone.")


def _scaling(seen: Situation) -> Condition:
    decision = seen.scaling
    if decision.reason == "MetricsMissing":
        message = "No complete metrics from the replicas: their number is held."
        return false(names.SCALING_ACTIVE, decision.reason, message)
    scaling = seen.deployment.spec.scaling
    assert scaling
    if decision.reason == "AtMax":
        return true(names.SCALING_ACTIVE, "AtMax", f"The load asks for more than scaling.max = {scaling.max}.")
    message = f"{decision.replicas} of {scaling.min} to {scaling.max} replicas."
    return true(names.SCALING_ACTIVE, decision.reason, message)


def _ready(seen: Situation, stages: tuple[Condition, ...], progressing: Condition) -> Condition:
    for condition in stages:
        if not condition.is_true and not _is_bearable(seen, condition):
            return false(names.READY, condition.reason, condition.message)
    if seen.others or seen.target is None or not seen.target.available:
        return false(names.READY, progressing.reason, progressing.message)
    if not seen.is_proven:
        smoke = seen.observed.smoke
        message = smoke.message if smoke and not smoke.ok else "Waiting for a token through the Service."
        return false(names.READY, "NotRoutable", message)
    return true(names.READY, "Serving", "A token was generated through the Service.")


def _is_bearable(seen: Situation, condition: Condition) -> bool:
    """A replica that finds no node, or more replicas that are still to come, do not stop those that serve."""
    if condition.type == names.AVAILABLE:
        return seen.routable > 0 and was_ready(seen.observed.status)
    return condition.type == names.CAPACITY_AVAILABLE


def fields(seen: Situation) -> dict[str, Any]:
    """The status without its conditions."""
    deployment, resolution = seen.deployment, seen.resolution
    ready = seen.is_proven and not seen.others
    serving = resolution.revision if ready else seen.observed.status.get("servingRevision")
    failed = next((v.last_failure for v in (seen.weights, seen.engine) if v and not v.ready and v.last_failure), None)
    wanted = seen.scaling.replicas if seen.revision else 0
    values = {
        "replicas": wanted + sum(workload.replicas for workload in seen.others if not seen.target_is_complete),
        "routableReplicas": seen.routable,
        "selector": f"{names.NAME_LABEL}={deployment.name},{names.COMPONENT_LABEL}={names.SERVER}",
        "revision": resolution.revision or None,
        "servingRevision": serving,
        "url": f"dns:///{deployment.name}-pods.{deployment.namespace}.svc:{names.GRPC_PORT}",
        "resolved": _resolved(seen).to_dict(),
        "scaling": _scaling_status(seen),
        "lastFailure": failed,
    }
    return {key: value for key, value in values.items() if value is not None}


def _resolved(seen: Situation) -> Resolved:
    deployment, resolution = seen.deployment, seen.resolution
    gpus = deployment.gpus_per_replica
    return Resolved(
        target=deployment.target,
        precision=deployment.precision,
        weights=resolution.weights_name,
        engine=resolution.engine_name or None,
        image=resolution.image,
        gpu=f"{gpus}x{resolution.sku}" if gpus else "CPU",
        max_sequence_tokens=deployment.limits.max_sequence_tokens,
        max_batch=deployment.limits.max_batch,
    )


def _scaling_status(seen: Situation) -> dict[str, Any] | None:
    if not seen.deployment.spec.scaling:
        return None
    return ScalingStatus(desired=seen.scaling.replicas, reason=seen.scaling.reason).to_dict()
