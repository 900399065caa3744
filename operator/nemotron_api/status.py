"""Describe what the operator reports: the status of both kinds."""

from typing import Annotated, Any, Literal

from pydantic import Field

from nemotron_api.record import Record


class ConditionStatus(Record):
    """`metav1.Condition`."""

    type: str = Field(max_length=316)
    status: Literal["True", "False", "Unknown"]
    reason: str = Field(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", max_length=1024)
    message: str = Field(max_length=32768)
    observed_generation: int
    last_transition_time: str = Field(json_schema_extra={"format": "date-time"})


Conditions = Annotated[
    tuple[ConditionStatus, ...],
    Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
]


class LastFailure(Record):
    """The latest failed Job, kept until the next one succeeds."""

    job: str | None = None
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None
    log_tail: str | None = Field(None, description="The end of the Job's log, at most 1 KiB.")


class ArtifactStatus(Record):
    conditions: Conditions | None = None
    attempts: int | None = Field(None, description="Jobs started so far.")
    job: str | None = Field(None, description="The Job of the latest attempt.")
    manifest_sha256: str | None = Field(None, description="What pods verify before they serve it.")
    digest: str | None = Field(None, description="sha256 over its files.")
    bytes: int | None = None
    seconds: float | None = Field(None, description="How long the Job took.")
    record: dict[str, Any] | None = Field(None, description="What the build learnt.")
    last_failure: LastFailure | None = None


class Resolved(Record):
    """What the spec left open, solved."""

    target: str | None = None
    precision: str | None = None
    weights: str | None = Field(None, description="Name of the NemotronArtifact of kind Weights.")
    engine: str | None = Field(None, description="Name of the NemotronArtifact of kind Engine.")
    image: str | None = None
    gpu: str | None = Field(None, description="GPUs of one replica, such as 2xH100-SXM, or CPU.")
    max_sequence_tokens: int | None = None
    max_batch: int | None = None


class ScalingStatus(Record):
    """What the load asks for, and why."""

    desired: int | None = None
    reason: str | None = None


class DeploymentStatus(Record):
    observed_generation: int | None = None
    conditions: Conditions | None = None
    replicas: int | None = None
    routable_replicas: int | None = Field(None, description="Replicas that generated a token and are ready endpoints.")
    selector: str | None = None
    revision: str | None = Field(None, description="The revision the spec asks for.")
    serving_revision: str | None = Field(None, description="The revision that answered last.")
    url: str | None = Field(None, description="Where gRPC clients connect.")
    resolved: Resolved | None = None
    scaling: ScalingStatus | None = None
    last_failure: LastFailure | None = None
