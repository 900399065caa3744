"""Say what a build Job is asked for and what it answers: requests, manifests, the termination message."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from nemotron_api.record import Record, fingerprint

TERMINATION_MESSAGE_BYTES = 4096
MANIFEST = "manifest.json"
COMPLETE = "COMPLETE"

Kind = Literal["Weights", "Engine"]
Target = Literal["Torch"]
Precision = Literal["FP32", "BF16"]

Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", max_length=63)]
"""A DNS label: it becomes a folder in the engine and the name clients ask for."""


class Limits(Record):
    """What one replica serves at most. Part of an engine's identity: pools are sized from it."""

    max_sequence_tokens: int = Field(default=4096, ge=16, le=1_048_576)
    max_batch: int = Field(default=16, ge=1, le=1024)


class WeightsRequest(Record):
    """Fetch a checkpoint into `<store>/weights/<fingerprint>/` and verify it."""

    kind: Literal["Weights"] = "Weights"
    uri: str
    digest: Digest | None = None
    """sha256 over the checkpoint's file list (see `nemotron_build.digest`); None means whatever is there."""
    store: str
    """Name of the claim that keeps it: an artifact is its inputs at one place. The mount's path is the Job's affair."""

    @property
    def fingerprint(self) -> str:
        return fingerprint(self)


class EngineRequest(Record):
    """Turn verified weights into `<store>/engines/<fingerprint>/`, an engine that `target` can serve."""

    kind: Literal["Engine"] = "Engine"
    model: ModelName
    weights: Fingerprint
    """Fingerprint of the Weights artifact, the name of its directory in the store."""
    weights_digest: Digest
    target: Target = "Torch"
    precision: Precision = "BF16"
    limits: Limits = Limits()
    runtime: str
    """The image that builds and serves, by digest or tag: its libraries decide what the engine is."""
    store: str

    @property
    def fingerprint(self) -> str:
        return fingerprint(self)


BuildRequest = Annotated[WeightsRequest | EngineRequest, Field(discriminator="kind")]
BUILD_REQUEST: TypeAdapter[WeightsRequest | EngineRequest] = TypeAdapter(BuildRequest)


class FileEntry(Record):
    path: str
    sha256: str
    bytes: int


class Manifest(Record):
    """`manifest.json` of a sealed artifact: what it was made of, by what, and every file it holds."""

    kind: Kind
    fingerprint: Fingerprint
    request: dict[str, Any]
    digest: Digest
    """sha256 over `files`: the content's identity, as the fingerprint is the inputs'."""
    files: tuple[FileEntry, ...]
    versions: dict[str, str] = Field(default_factory=dict)
    host: dict[str, str] = Field(default_factory=dict)
    record: dict[str, Any] = Field(default_factory=dict)
    """What the build learnt: parameters, state and page sizes in bytes, the smoke generation."""

    @property
    def total_bytes(self) -> int:
        return sum(file.bytes for file in self.files)


class Tls(Record):
    """Files of a mounted secret with which the gRPC port proves who it is; with `ca`, its clients must, too.

    With `ca` the certificate must be good for a client as well, for the launcher asks its own server for a token.
    """

    certificate: str
    key: str
    ca: str | None = None
    server_name: str
    """A DNS name in the certificate."""
    spread_seconds: int = Field(default=600, ge=0)
    """Replicas that see new files drain and restart at random moments of this time, not all at once."""


class Tracing(Record):
    """Where spans go."""

    url: str
    """Of an OTLP/HTTP receiver, with its path: `http://collector:4318/v1/traces`."""
    ratio: float = Field(default=1.0, ge=0, le=1)
    """The share that is traced of those requests that bring no trace of their own."""


class ServingConfig(Record):
    """What a serving pod is told: the operator writes it into the revision's ConfigMap, the launcher reads it."""

    model: str
    """The Triton model's name: `spec.model.name`, the name the engine's model repository was rendered with."""
    engine: str
    """Directory of the engine inside the store's mount."""
    manifest_sha256: str
    """sha256 of the engine's manifest.json; the pod refuses to serve anything else."""
    drain_seconds: int = 600
    connection_age_seconds: int = 30
    max_waiting: int = 256
    # None, not a default: what is not set is not written, so that an older image can read it.
    client_limit: int | None = Field(default=None, ge=1)
    """Answers that one client (request parameter `client`) may have in flight; None is any number."""
    start_seconds: int | None = Field(default=None, ge=1)
    """A server that is started again gets this time, or three times what the first start took if that is longer."""
    park_bytes: int | None = Field(default=None, ge=0)
    """Memory of the pod for sessions that lost their place to others; None is an eighth of its limit."""
    park_directory: str | None = None
    """A directory of this pod alone, on a volume, for those that find no room there; without one they are computed
    again."""
    tls: Tls | None = None
    tracing: Tracing | None = None


class Success(Record):
    """The termination message of a Job that sealed its artifact."""

    fingerprint: str
    manifest_sha256: str
    digest: str
    bytes: int
    seconds: float
    record: dict[str, Any] = Field(default_factory=dict)


class Failure(Record):
    """The termination message of a Job that could not."""

    reason: str
    message: str
