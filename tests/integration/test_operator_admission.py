"""What the API server refuses by itself, and the words a user reads then."""

from typing import Any

import pytest

from nemotron_api import names
from nemotron_api.artifact import ArtifactSpec, name_of
from nemotron_api.build import WeightsRequest
from nemotron_operator.objects import NA, ND, Manifest
from tests.integration.control_plane import Refusal
from tests.integration.operator_world import World

pytestmark = pytest.mark.integration
pytest_plugins = ("tests.integration.operator_fixtures",)

MODEL = {"name": "tiny", "source": {"uri": "pvc://models/tiny"}}


def body(world: World, name: str = "nano", **spec: Any) -> Manifest:
    meta = {"name": name, "namespace": world.namespace}
    return {"apiVersion": names.API_VERSION, "kind": ND.kind, "metadata": meta, "spec": {"model": MODEL, **spec}}


def refused(world: World, manifest: Manifest) -> str:
    with pytest.raises(Refusal) as refusal:
        world.api.create(manifest, strict=True)
    assert 400 <= refusal.value.status < 500
    return str(refusal.value)


def source(**fields: Any) -> dict[str, Any]:
    return {"model": {"name": "tiny", "source": {"uri": "pvc://models/tiny", **fields}}}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param({"replica": 2}, 'unknown field "spec.replica"', id="unknown-field"),
        pytest.param({"engine": {"precison": "FP32"}}, 'unknown field "spec.engine.precison"', id="unknown-deep-field"),
        pytest.param({"engine": {"precision": "INT3"}}, 'supported values: "FP32", "BF16"', id="unknown-precision"),
        pytest.param({"engine": {"target": "Magic"}}, 'supported values: "Torch"', id="unknown-target"),
        pytest.param(
            {"replicas": 3, "scaling": {"max": 2}},
            "replicas and scaling exclude each other: remove replicas, or change scaling.min/max",
            id="replicas-with-scaling",
        ),
        pytest.param(
            {"scaling": {"min": 3, "max": 2}},
            "scaling.min is larger than scaling.max: lower min or raise max",
            id="min-above-max",
        ),
        pytest.param({"scaling": {"min": 1}}, "spec.scaling.max: Required value", id="no-max"),
        pytest.param({"scaling": {"min": 0, "max": 1}}, "greater than or equal to 1", id="min-of-none"),
        pytest.param(
            source(uri="ftp://host/tiny"),
            "write hf://<owner>/<repository>@<commit> with all 40 hex digits of the commit, since a branch may change",
            id="unknown-scheme",
        ),
        pytest.param(source(uri="pvc://models"), "or pvc://<claim>/<path>", id="no-path"),
        pytest.param(source(uri="pvc:///tiny"), "or pvc://<claim>/<path>", id="no-claim"),
        pytest.param(source(uri="hf://nvidia/tiny@main"), "with all 40 hex digits of the commit", id="branch"),
        pytest.param(
            source(endpoint="https://hub.example.com"),
            "source.endpoint is a hub's address: remove it, or write a hf:// URI",
            id="endpoint-of-a-claim",
        ),
        pytest.param(source(uri=""), "spec.model.source.uri", id="no-uri"),
        pytest.param(source(digest="sha256:123"), "spec.model.source.digest", id="half-a-digest"),
        pytest.param({"replicas": -1}, "greater than or equal to 0", id="negative-replicas"),
        pytest.param({"replicas": 1001}, "less than or equal to 1000", id="very-many-replicas"),
        pytest.param({"replicas": "two"}, "must be of type integer", id="words-for-numbers"),
        pytest.param({"replicas": 1.5}, "must be of type integer", id="half-a-replica"),
        pytest.param(
            {"model": {"source": {"uri": "pvc://m/t"}}}, "spec.model.name: Required value", id="no-model-name"
        ),
        pytest.param({"model": {**MODEL, "name": "Tiny_1"}}, "spec.model.name", id="a-model-that-is-no-dns-label"),
        pytest.param({"model": {**MODEL, "name": "t" * 64}}, "spec.model.name", id="a-model-with-too-long-a-name"),
        pytest.param(
            {"cache": {"claimName": "a", "size": "5Gi"}},
            "claimName names an existing claim: remove storageClassName and size, or remove claimName",
            id="a-claim-that-is-and-is-to-be-made",
        ),
        pytest.param({"cache": {"size": "lots"}}, "spec.cache.size", id="no-size"),
        pytest.param({"rollout": {"progressDeadline": "soon"}}, "spec.rollout.progressDeadline", id="no-duration"),
        pytest.param(
            {"rollout": {"progressDeadline": "0s"}}, "progressDeadline must be longer than 0s", id="no-time-at-all"
        ),
        pytest.param({"rollout": {"progressDeadline": "99999h"}}, "spec.rollout.progressDeadline", id="a-decade"),
        pytest.param({"scaling": {"max": 2, "stabilization": "1d"}}, "stabilization", id="a-unit-nobody-knows"),
        pytest.param({"runtime": {"env": [{"name": "9LIVES"}]}}, "spec.runtime.env[0].name", id="no-variable"),
        pytest.param({"runtime": {"resources": {"memory": "much"}}}, "spec.runtime.resources.memory", id="no-quantity"),
        pytest.param({"engine": {"limits": {"maxBatch": 0}}}, "greater than or equal to 1", id="an-empty-batch"),
        pytest.param({"engine": {"parallelism": {"tensor": 0}}}, "greater than or equal to 1", id="no-gpu-at-all"),
        pytest.param({"placement": {"gpu": {"skus": []}}}, "should have at least 1 items", id="no-sku"),
        pytest.param({"disruption": {"minAvailable": 0}}, "greater than or equal to 1", id="nothing-available"),
    ],
)
def test_a_wrong_spec_is_refused_with_words_that_help(world: World, spec: dict[str, Any], says: str) -> None:
    assert says in refused(world, body(world, **spec))


@pytest.mark.parametrize("name", ["Nano", "9nano", "nano.v1", "nano-", "n" * 41])
def test_a_name_that_is_no_service_name_is_refused(world: World, name: str) -> None:
    assert "metadata.name" in refused(world, body(world, name))


@pytest.mark.parametrize("name", ["n", "nano-3-30b-a3b", "n" * 40])
def test_a_name_that_is_one_is_not(world: World, name: str) -> None:
    world.api.create(body(world, name), strict=True)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="only-a-model"),
        pytest.param({"scaling": {"max": 2}}, id="scaling-without-replicas"),
        pytest.param({"replicas": 1, "scaling": {"max": 2}}, id="the-default-written-out"),
        pytest.param({"replicas": 0}, id="none"),
        pytest.param({"scaling": {"max": 2, "stabilization": "0s"}}, id="no-stabilization"),
        pytest.param({"disruption": {"drain": {"deadline": "1h30m"}}}, id="a-long-drain"),
        pytest.param({"engine": {"limits": {"maxSequenceTokens": 1_048_576}}}, id="a-million-tokens"),
    ],
)
def test_a_right_spec_is_taken(world: World, spec: dict[str, Any]) -> None:
    stored = world.api.create(body(world, **spec), strict=True)
    assert stored["spec"]["replicas"] == spec.get("replicas", 1)


def test_scaling_cannot_be_scaled_by_hand(world: World) -> None:
    world.api.create(body(world, scaling={"max": 3}))
    path = ND.path(world.namespace, "nano") + "/scale"
    scale = world.api.call("GET", path)
    scale["spec"]["replicas"] = 2
    with pytest.raises(Refusal, match="replicas and scaling exclude each other"):
        world.api.call("PUT", path, scale)


class TestArtifacts:
    def artifact(self, world: World, **spec: Any) -> Manifest:
        request = WeightsRequest(uri="pvc://models/hand-made", store="nemotron-store")
        made = ArtifactSpec(
            kind="Weights", fingerprint=request.fingerprint, claim_name="nemotron-store", weights=request, image="i"
        )
        name = name_of("Weights", request.fingerprint)
        fields = {key: value for key, value in {**made.to_dict(), **spec}.items() if value is not None}
        meta = {"name": name, "namespace": world.namespace}
        return {"apiVersion": names.API_VERSION, "kind": NA.kind, "metadata": meta, "spec": fields}

    def test_one_made_by_hand_is_built(self, world: World) -> None:
        made = world.api.create(self.artifact(world), strict=True)
        name = made["metadata"]["name"]
        world.until(lambda: world.api.get(NA, world.namespace, name).get("status", {}).get("digest"))
        world.until_settled()
        assert world.api.find(NA, world.namespace, name), "nobody needs it, and it is its maker's"

    @pytest.mark.parametrize("change", [{"image": "other"}, {"claimName": "other"}, {"runtime": {"image": "other"}}])
    def test_it_cannot_change(self, world: World, change: dict[str, Any]) -> None:
        made = world.api.create(self.artifact(world))
        with pytest.raises(Refusal, match="an artifact is immutable"):
            world.api.patch(NA, world.namespace, made["metadata"]["name"], {"spec": change})

    @pytest.mark.parametrize(
        ("spec", "says"),
        [
            ({"kind": "Engine"}, "give the request that fits the kind"),
            ({"weights": None}, "give the request that fits the kind"),
            ({"kind": "Tokenizer"}, "supported values"),
            ({"fingerprint": "abc"}, "spec.fingerprint"),
        ],
    )
    def test_its_request_fits_its_kind(self, world: World, spec: dict[str, Any], says: str) -> None:
        assert says in refused(world, self.artifact(world, **spec))

    def test_a_forged_fingerprint_builds_nothing_and_says_why(self, world: World) -> None:
        made = world.api.create(self.artifact(world, fingerprint="0" * 64))
        name = made["metadata"]["name"]
        status = world.until(lambda: world.api.get(NA, world.namespace, name).get("status"))
        assert status["conditions"][0]["reason"] == "InvalidSpec"
        assert "spec.fingerprint is not the request's" in status["conditions"][0]["message"]
