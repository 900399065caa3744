"""Describe a NemotronDeployment: what a user wants served."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from nemotron_api import duration
from nemotron_api.build import Limits, Precision, Target
from nemotron_api.cel import cel
from nemotron_api.record import Record
from nemotron_api.source import LocalReference, ObjectName, Source

Duration = Annotated[str, StringConstraints(pattern=duration.PATTERN, min_length=2, max_length=16)]
Count = Annotated[int, Field(ge=0, le=1000)]
DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", max_length=63)]

DEFAULT_CLAIM = "nemotron-store"


class Model(Record):
    """What is served."""

    name: DnsLabel = Field(description="The model's name, and the name clients put in their requests.")
    source: Source = Field(
        description="Where its weights are.",
        json_schema_extra=cel(
            "!has(self.endpoint) || self.uri.startsWith('hf://')",
            "source.endpoint is a hub's address: remove it, or write a hf:// URI",
        ),
    )


class Parallelism(Record):
    tensor: int = Field(1, ge=1, le=64, description="GPUs that share each layer, all on one node.")


class EngineSpec(Record):
    """How the model is made to run."""

    target: Target | None = Field(None, description="How the engine is made and run. Absent: Torch.")
    precision: Precision | None = Field(None, description="Number format of the weights. Absent: BF16.")
    parallelism: Parallelism | None = Field(None, description="GPUs per replica. Absent: 1.")
    limits: Limits | None = Field(None, description="The longest sequence and the largest batch of one replica.")


class EnvVar(Record):
    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=128)
    value: str = Field("", max_length=4096)


class Resources(Record):
    """Compute resources of one replica's container, as Kubernetes quantities."""

    cpu: str | None = Field(None, pattern=r"^[0-9]+m?$", description="Requested processors, such as 500m or 2.")
    memory: str | None = Field(None, pattern=r"^[0-9]+(Ki|Mi|Gi|Ti)$", description="Memory, requested and limited.")


class Runtime(Record):
    """The image that builds and serves."""

    image: str | None = Field(None, min_length=1, max_length=512, description="Absent: the image the chart sets.")
    image_pull_secrets: tuple[LocalReference, ...] | None = Field(None, max_length=16)
    env: tuple[EnvVar, ...] | None = Field(None, max_length=64, description="Variables of the serving container.")
    resources: Resources | None = Field(None, description="Absent: the values the chart sets.")


class GpuPlacement(Record):
    skus: tuple[str, ...] = Field(min_length=1, max_length=8, description="GPUs the model may run on.")


class Toleration(Record):
    key: str | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class Placement(Record):
    """Where pods run; inherited by the Jobs that build."""

    gpu: GpuPlacement | None = Field(None, description="Absent: the model runs on CPUs.")
    runtime_class_name: DnsLabel | None = None
    node_selector: dict[str, str] | None = None
    tolerations: tuple[Toleration, ...] | None = Field(None, max_length=32)
    priority_class_name: ObjectName | None = None


class Cache(Record):
    """The volume that keeps weights and engines, shared by the namespace's deployments."""

    claim_name: ObjectName | None = Field(None, description=f"An existing claim. Absent: {DEFAULT_CLAIM} is made.")
    storage_class_name: str | None = Field(None, max_length=253, description="Class of the claim to make.")
    size: str | None = Field(None, pattern=r"^[0-9]+(Mi|Gi|Ti)$", description="Size of the claim. Absent: 100Gi.")


class Scaling(Record):
    """Let the load decide the number of replicas."""

    min: int = Field(1, ge=1, le=1000, description="Fewest replicas.")
    max: int = Field(ge=1, le=1000, description="Most replicas.")
    stabilization: Duration | None = Field(
        None, description="How long the load must allow fewer replicas before one goes. Absent: 180s."
    )


class Rollout(Record):
    progress_deadline: Duration | None = Field(
        None,
        description="How long a revision may take to become available before that is reported. Absent: 45m.",
        json_schema_extra=cel("self.matches('[1-9]')", "rollout.progressDeadline must be longer than 0s"),
    )


class Drain(Record):
    deadline: Duration | None = Field(
        None,
        description="How long a stopping replica may finish streams; holds from the next revision on. Absent: 10m.",
    )


class Disruption(Record):
    min_available: int | None = Field(None, ge=1, le=1000, description="Replicas that node drains must leave.")
    drain: Drain | None = None


class DeploymentSpec(Record):
    """What a user wants served. Only `model` is required; what is absent is solved and echoed in `status.resolved`."""

    model: Model
    engine: EngineSpec | None = None
    runtime: Runtime | None = None
    placement: Placement | None = None
    cache: Cache | None = Field(
        None,
        json_schema_extra=cel(
            "!has(self.claimName) || (!has(self.storageClassName) && !has(self.size))",
            "claimName names an existing claim: remove storageClassName and size, or remove claimName",
        ),
    )
    replicas: Count = Field(1, description="How many pods serve; `kubectl scale` and autoscalers write here.")
    scaling: Scaling | None = Field(
        None,
        json_schema_extra=cel(
            "!has(self.min) || self.min <= self.max", "scaling.min is larger than scaling.max: lower min or raise max"
        ),
    )
    rollout: Rollout | None = None
    disruption: Disruption | None = None


class NemotronDeployment(Record):
    """One NemotronDeployment as the cluster holds it, with what it leaves open already decided by its properties."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: DeploymentSpec

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "NemotronDeployment":
        """Read an object of the API server.

        Raises:
            pydantic.ValidationError: the object was stored under another schema than this one.
        """
        meta = body["metadata"]
        return cls(
            name=meta["name"],
            namespace=meta.get("namespace", "default"),
            uid=meta.get("uid", ""),
            generation=meta.get("generation", 0),
            spec=DeploymentSpec.model_validate(body["spec"]),
        )

    @property
    def limits(self) -> Limits:
        return (self.spec.engine and self.spec.engine.limits) or Limits()

    @property
    def precision(self) -> Precision:
        return (self.spec.engine and self.spec.engine.precision) or "BF16"

    @property
    def target(self) -> Target:
        return (self.spec.engine and self.spec.engine.target) or "Torch"

    @property
    def gpus_per_replica(self) -> int:
        """0 when the model runs on CPUs."""
        if not self.placement.gpu:
            return 0
        return self.spec.engine.parallelism.tensor if self.spec.engine and self.spec.engine.parallelism else 1

    @property
    def placement(self) -> Placement:
        return self.spec.placement or Placement()

    @property
    def runtime(self) -> Runtime:
        return self.spec.runtime or Runtime()

    @property
    def claim(self) -> str:
        return (self.spec.cache and self.spec.cache.claim_name) or DEFAULT_CLAIM

    @property
    def makes_claim(self) -> bool:
        return not (self.spec.cache and self.spec.cache.claim_name)

    @property
    def drain_seconds(self) -> int:
        drain = self.spec.disruption and self.spec.disruption.drain
        return duration.seconds((drain and drain.deadline) or "10m")

    @property
    def progress_deadline_seconds(self) -> int:
        return duration.seconds((self.spec.rollout and self.spec.rollout.progress_deadline) or "45m")

    @property
    def most_replicas(self) -> int:
        return self.spec.scaling.max if self.spec.scaling else self.spec.replicas

    @property
    def min_available(self) -> int:
        """Replicas that node drains must leave: what the user says, else one."""
        fewest = self.spec.scaling.min if self.spec.scaling else self.spec.replicas
        asked = self.spec.disruption and self.spec.disruption.min_available
        return min(asked or 1, fewest)
