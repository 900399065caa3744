"""Whether a live object is what was asked for, however the API server spells it."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api import names
from nemotron_operator.objects import KINDS, Ref, is_satisfied, with_hash
from nemotron_operator.plan import Apply, Create, plan
from tests.builders.operator import SETTINGS, a_deployment, manifest_of, serving, with_artifacts

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("desired", "live", "expected"),
    [
        pytest.param({"a": 1}, {"a": 1, "b": 2}, True, id="defaults-of-the-server-are-fine"),
        pytest.param({"a": 1}, {}, False, id="a-field-that-is-gone"),
        pytest.param({"a": 1}, {"a": 2}, False, id="a-field-that-was-changed"),
        pytest.param({"a": {"b": 1}}, {"a": None}, False, id="an-object-that-became-null"),
        pytest.param({"a": [1, 2]}, {"a": [2, 1]}, False, id="order-matters-in-a-command"),
        pytest.param({"a": [1]}, {"a": [1, 2]}, False, id="an-argument-somebody-added"),
        pytest.param({"a": [1, 2]}, {"a": [1]}, False, id="an-argument-somebody-removed"),
        pytest.param({"a": "abc"}, {"a": ["a", "b", "c"]}, False, id="text-is-not-a-list"),
        pytest.param({"requests": {"cpu": "1000m"}}, {"requests": {"cpu": "1"}}, True, id="the-same-quantity"),
        pytest.param({"limits": {"memory": "1Gi"}}, {"limits": {"memory": "1024Mi"}}, True, id="binary-units"),
        pytest.param({"limits": {"memory": "1G"}}, {"limits": {"memory": "1Gi"}}, False, id="decimal-is-not-binary"),
        pytest.param({"requests": {"cpu": "1"}}, {"requests": {"cpu": "2"}}, False, id="another-quantity"),
        pytest.param({"requests": {"cpu": "1"}}, {"requests": {"cpu": "lots"}}, False, id="no-quantity-at-all"),
        pytest.param({"value": "1"}, {"value": "1000m"}, False, id="a-variable-is-no-quantity"),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "HAND", "value": "made"}]},
            True,
            id="items-somebody-added-to-a-merged-list-are-theirs",
        ),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]},
            {"env": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]},
            True,
            id="a-merged-list-has-keys-not-an-order",
        ),
        pytest.param(
            {"env": [{"name": "A", "value": "1"}]},
            {"env": [{"name": "A", "value": "2"}, {"name": "B", "value": "1"}]},
            False,
            id="an-item-of-ours-that-was-changed",
        ),
        pytest.param(
            {"ports": [{"name": "grpc", "port": 8001}]},
            {"ports": [{"name": "grpc", "port": 8001, "protocol": "TCP"}, {"name": "ssh", "port": 22}]},
            True,
            id="a-port-somebody-added",
        ),
        pytest.param({"tolerations": [1]}, {"tolerations": [1, 2]}, False, id="a-toleration-somebody-added"),
        pytest.param({"selector": {"a": "1"}}, {"selector": {"a": "1", "b": "2"}}, False, id="a-narrower-selector"),
        pytest.param({"nodeSelector": {"gpu": ""}}, {"nodeSelector": {}}, False, id="an-empty-label-is-a-label"),
        pytest.param({"replicas": 0}, {}, False, id="zero-is-not-absent"),
        pytest.param({"readOnly": False}, {}, False, id="false-is-not-absent"),
    ],
)
def test_desired_within_live(desired: Any, live: Any, expected: bool) -> None:
    assert is_satisfied(desired, live) is expected


trees = st.recursive(
    st.integers() | st.text(max_size=4) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(tree=trees)
def test_everything_satisfies_itself(tree: Any) -> None:
    assert is_satisfied(tree, copy.deepcopy(tree))


@given(tree=st.dictionaries(st.text(max_size=3), trees, min_size=1), extra=trees)
def test_more_than_was_asked_for_satisfies(tree: dict[str, Any], extra: Any) -> None:
    assert is_satisfied(tree, {**tree, "more than was asked": extra})


def everything_we_write() -> list[dict[str, Any]]:
    deployment = a_deployment(
        replicas=2,
        runtime={"env": [{"name": "EMPTY"}, {"name": "HOME", "value": "/elsewhere"}]},
        placement={
            "gpu": {"skus": ["H100-SXM"]},
            "nodeSelector": {"node-role.test/gpu": ""},
            "tolerations": [{"key": "gpu", "operator": "Exists", "value": ""}],
        },
    )
    actions = plan(deployment, serving(deployment), SETTINGS).actions
    return [action.manifest for action in actions if isinstance(action, Apply | Create)]


@pytest.mark.parametrize("manifest", everything_we_write(), ids=lambda m: m["kind"] + " " + m["metadata"]["name"])
class TestEverythingWeWrite:
    def test_the_hash_covers_the_whole_manifest(self, manifest: dict[str, Any]) -> None:
        changed = copy.deepcopy(manifest)
        changed["metadata"]["labels"]["more"] = "so"
        mark = names.APPLIED_HASH
        assert (
            with_hash(manifest)["metadata"]["annotations"][mark] != with_hash(changed)["metadata"]["annotations"][mark]
        )

    def test_adding_the_hash_leaves_the_manifest_alone(self, manifest: dict[str, Any]) -> None:
        before = copy.deepcopy(manifest)
        with_hash(manifest)
        assert manifest == before

    def test_it_says_nothing_the_api_server_would_drop(self, manifest: dict[str, Any]) -> None:
        if manifest["kind"] != names.ARTIFACT_KIND:  # made once, and never compared
            assert list(nothings(manifest)) == []

    def test_its_kind_can_be_addressed(self, manifest: dict[str, Any]) -> None:
        ref = Ref.of(manifest)
        kind = KINDS[ref.kind]
        assert kind.api_version == manifest["apiVersion"]
        assert kind.path(ref.namespace, ref.name).endswith(f"/namespaces/models/{kind.plural}/{ref.name}")

    def test_it_is_marked_as_ours(self, manifest: dict[str, Any]) -> None:
        assert manifest["metadata"]["labels"][names.MANAGED_BY] == names.FIELD_MANAGER


LABELS = ("labels", "matchLabels", "nodeSelector")


def nothings(value: Any, path: tuple[str, ...] = ()) -> Any:
    """Paths of nulls, of empty lists and of empty texts: the API server stores none, so comparing would never end."""
    if value is None or value == [] or (value == "" and path[-2] not in LABELS):
        yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from nothings(child, (*path, key))
    if isinstance(value, list):
        for index, child in enumerate(value):
            yield from nothings(child, (*path, str(index)))


def test_a_pull_secret_of_the_chart_and_of_the_user_is_named_once() -> None:
    chart = SETTINGS.model_copy(update={"image_pull_secrets": ("registry", "mirror")})
    deployment = a_deployment(runtime={"imagePullSecrets": [{"name": "mirror"}, {"name": "own"}]})
    decided = plan(deployment, with_artifacts(deployment), chart)
    pod = manifest_of(decided, "Deployment")["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "registry"}, {"name": "mirror"}, {"name": "own"}]
