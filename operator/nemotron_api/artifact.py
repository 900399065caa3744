"""Describe a NemotronArtifact: the immutable result of one Job, named by its fingerprint."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from nemotron_api.build import EngineRequest, WeightsRequest
from nemotron_api.deployment import Placement, Runtime
from nemotron_api.record import Record, short
from nemotron_api.source import LocalReference


class ArtifactSpec(Record):
    """What is made, from what, where it is kept, and how its Job runs. Nothing of it can change."""

    kind: Literal["Weights", "Engine"] = Field(description="Weights: a verified checkpoint. Engine: what pods serve.")
    fingerprint: str = Field(pattern=r"^[0-9a-f]{64}$", description="sha256 over every input that can change it.")
    claim_name: str = Field(description="The claim that keeps it.")
    weights: WeightsRequest | None = Field(None, description="The request, when kind is Weights.")
    engine: EngineRequest | None = Field(None, description="The request, when kind is Engine.")
    image: str = Field(description="The image of its Job.")
    runtime: Runtime = Field(Runtime(), description="Pull secrets and resources of its Job.")
    placement: Placement = Field(Placement(), description="Where its Job may run.")
    secret_ref: LocalReference | None = Field(None, description="Secret whose keys the Job gets as variables.")
    endpoint: str | None = Field(None, description="Address of the hub that weights are fetched from.")


class NemotronArtifact(Record):
    """One NemotronArtifact as the cluster holds it."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: ArtifactSpec

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "NemotronArtifact":
        meta = body["metadata"]
        return cls(
            name=meta["name"],
            namespace=meta["namespace"],
            uid=meta.get("uid", ""),
            generation=meta.get("generation", 0),
            spec=ArtifactSpec.model_validate(body["spec"]),
        )

    @property
    def request(self) -> WeightsRequest | EngineRequest:
        request = self.spec.weights or self.spec.engine
        assert request, "CEL requires the request that fits the kind"
        return request

    @property
    def source_claim(self) -> str:
        """The claim weights are fetched from; empty for an engine, and where they come from elsewhere."""
        uri = self.spec.weights.uri if self.spec.weights else ""
        return uri.removeprefix("pvc://").partition("/")[0] if uri.startswith("pvc://") else ""


def name_of(kind: str, fingerprint: str) -> str:
    """`weights-0123456789ab`: one name per namespace and input."""
    return f"{kind.lower()}-{short(fingerprint)}"
