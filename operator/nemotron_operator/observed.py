"""Turn API objects into the frozen records that planning reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nemotron_api import names
from nemotron_operator.objects import Manifest, Ref


@dataclass(frozen=True, slots=True)
class Child:
    """An object the operator made, small enough to keep a thousand deployments' worth."""

    ref: Ref
    uid: str
    version: int
    """resourceVersion: larger is newer."""
    owner: str
    """uid of the controlling owner, empty for none."""
    labels: Mapping[str, str]
    deleting: bool
    body: bytes
    """The object as JSON, without managed fields."""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "Child":
        meta = body["metadata"]
        owners = [owner["uid"] for owner in meta.get("ownerReferences", ()) if owner.get("controller")]
        kept = {key: value for key, value in meta.items() if key != "managedFields"}
        return cls(
            ref=Ref.of(body),
            uid=meta["uid"],
            version=int(meta["resourceVersion"]),
            owner=owners[0] if owners else "",
            labels=meta.get("labels", {}),
            deleting="deletionTimestamp" in meta,
            body=json.dumps({**body, "metadata": kept}, separators=(",", ":")).encode(),
        )

    @property
    def live(self) -> Manifest:
        parsed: Manifest = json.loads(self.body)
        return parsed

    @property
    def revision(self) -> str:
        return self.labels.get(names.REVISION_LABEL, "")


@dataclass(frozen=True, slots=True)
class PodView:
    """What planning asks about one pod."""

    ref: Ref
    owner_label: str
    """Name of the deployment or artifact it works for."""
    revision: str
    job: str
    phase: str
    ready: bool
    deleting: bool
    ip: str
    unschedulable: str
    """The scheduler's message, empty once a node is found."""
    waiting: tuple[str, str]
    """(reason, message) of a container that cannot start, such as ImagePullBackOff."""
    ended: tuple[int, str, str] | None
    """(exit code, reason, termination message) of the latest container that ended."""
    restarts: int

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "PodView":
        meta, status = body["metadata"], body.get("status", {})
        labels = meta.get("labels", {})
        conditions = {c["type"]: c for c in status.get("conditions", ())}
        scheduled = conditions.get("PodScheduled", {})
        containers = status.get("containerStatuses", ())
        return cls(
            ref=Ref("Pod", meta["namespace"], meta["name"]),
            owner_label=labels.get(names.NAME_LABEL) or labels.get(names.ARTIFACT_LABEL, ""),
            revision=labels.get(names.REVISION_LABEL, ""),
            job=labels.get("batch.kubernetes.io/job-name", ""),
            phase=status.get("phase", "Pending"),
            ready=conditions.get("Ready", {}).get("status") == "True",
            deleting="deletionTimestamp" in meta,
            ip=status.get("podIP", ""),
            unschedulable=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
            waiting=_waiting(containers),
            ended=_ended(containers),
            restarts=sum(container.get("restartCount", 0) for container in containers),
        )


def _waiting(containers: Any) -> tuple[str, str]:
    for container in containers:
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing", None):
            return waiting["reason"], waiting.get("message", "")
    return "", ""


def _ended(containers: Any) -> tuple[int, str, str] | None:
    for container in containers:
        for state in (container.get("state", {}), container.get("lastState", {})):
            if ended := state.get("terminated"):
                return ended.get("exitCode", 0), ended.get("reason", ""), ended.get("message", "")
    return None


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment of one revision: what it was told and what it has."""

    name: str
    revision: str
    replicas: int
    available: int
    created: str
    stalled: bool
    """Its progress deadline passed."""
    deleting: bool

    @classmethod
    def of(cls, child: Child) -> "Workload":
        body = child.live
        status = body.get("status", {})
        reasons = {c["type"]: c.get("reason") for c in status.get("conditions", ())}
        return cls(
            name=child.ref.name,
            revision=child.revision,
            replicas=body["spec"].get("replicas", 1),
            # Of an older generation too: only replicas change, so whatever is available is of this revision.
            available=status.get("availableReplicas", 0),
            created=body["metadata"].get("creationTimestamp", ""),
            stalled=reasons.get("Progressing") == "ProgressDeadlineExceeded",
            deleting=child.deleting,
        )


@dataclass(frozen=True, slots=True)
class Revision:
    """A ControllerRevision: the rendered template of one revision, kept so that no new operator renders it anew."""

    name: str
    number: int
    image: str
    data: Mapping[str, Any]

    @classmethod
    def of(cls, child: Child) -> "Revision":
        body = child.live
        return cls(child.revision, body["revision"], body["data"]["image"], body["data"])


@dataclass(frozen=True, slots=True)
class ArtifactView:
    """What a deployment asks about one artifact."""

    name: str
    ready: bool
    reason: str
    message: str
    manifest_sha256: str
    digest: str
    bytes: int
    last_failure: Mapping[str, Any] | None
    job: str

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> "ArtifactView":
        status = body.get("status", {})
        ready: Mapping[str, str] = next((c for c in status.get("conditions", ()) if c["type"] == names.READY), {})
        return cls(
            name=body["metadata"]["name"],
            ready=ready.get("status") == "True",
            reason=ready.get("reason", "Queued"),
            message=ready.get("message", "The Job is being created."),
            manifest_sha256=status.get("manifestSha256", ""),
            digest=status.get("digest", ""),
            bytes=status.get("bytes", 0),
            last_failure=status.get("lastFailure"),
            job=status.get("job", ""),
        )


@dataclass(frozen=True, slots=True)
class Smoke:
    """What came back when a token was asked for through the Service."""

    revision: str
    generation: int
    ok: bool
    message: str


@dataclass(frozen=True, slots=True)
class Load:
    """What the replicas' metrics said, summed over the replicas that answered."""

    replicas: int
    answered: int
    waiting: int
    slots_used: int
    slots_total: int


@dataclass(frozen=True, slots=True)
class Observed:
    """Everything planning may know about one deployment."""

    artifacts: Mapping[str, ArtifactView] = field(default_factory=dict)
    workloads: tuple[Workload, ...] = ()
    revisions: tuple[Revision, ...] = ()
    pods: tuple[PodView, ...] = ()
    children: Mapping[Ref, Child] = field(default_factory=dict)
    claim_modes: tuple[str, ...] | None = None
    """Access modes of the store's claim; None while there is no such claim."""
    taken: tuple[Ref, ...] = ()
    """Objects with names this deployment needs that belong to somebody else."""
    refused: str = ""
    """What the API server said to an object it does not accept."""
    smoke: Smoke | None = None
    load: Load | None = None
    wanted: tuple[tuple[float, int], ...] = ()
    """(time, replicas the load asked for) over the last stabilization time, oldest first."""
    status: Mapping[str, Any] = field(default_factory=dict)
    """The status as it was last written."""

    def workload(self, revision: str) -> Workload | None:
        return next((w for w in self.workloads if w.revision == revision), None)

    def revision(self, name: str) -> Revision | None:
        return next((r for r in self.revisions if r.name == name), None)
