"""The CRDs: generated, structural, small, and the same everywhere."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nemotron_api import names
from nemotron_api.artifact import ArtifactSpec
from nemotron_api.crd import artifact_crd, deployment_crd, render
from nemotron_api.deployment import DeploymentSpec

pytestmark = pytest.mark.contract

REPOSITORY = Path(__file__).parents[2]
CRDS = {crd["metadata"]["name"]: crd for crd in (deployment_crd(), artifact_crd())}
COPIES = (REPOSITORY / "manifests" / "crds", REPOSITORY / "charts" / "nemotron-operator" / "files" / "crds")
FORBIDDEN = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "not", "nullable", "const", "title", "discriminator"}


def schema_of(crd: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema in a schema, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{path}.*")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


@pytest.mark.parametrize("crd", CRDS.values(), ids=CRDS)
class TestEachDefinition:
    def test_it_is_structural(self, crd: dict[str, Any]) -> None:
        for path, node in nodes(schema_of(crd)):
            assert not FORBIDDEN & node.keys(), path
            assert node.get("type") in ("object", "array", "string", "integer", "number", "boolean"), path
            assert not ("properties" in node and "additionalProperties" in node), path

    def test_it_is_small(self, crd: dict[str, Any]) -> None:
        assert len(json.dumps(crd)) <= 60 * 1024
        assert len(render(crd)) <= 60 * 1024

    def test_every_object_of_the_spec_says_what_it_holds(self, crd: dict[str, Any]) -> None:
        for path, node in nodes(schema_of(crd)["properties"]["spec"]):
            if node["type"] == "object" and path:
                assert node.keys() & {"properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields"}, (
                    path
                )

    def test_every_rule_tells_what_to_do(self, crd: dict[str, Any]) -> None:
        rules = [r for _, node in nodes(schema_of(crd)) for r in node.get("x-kubernetes-validations", ())]
        assert rules
        for rule in rules:
            assert len(rule["message"]) > 20
            assert rule["rule"]

    def test_no_default_is_a_whole_object(self, crd: dict[str, Any]) -> None:
        for path, node in nodes(schema_of(crd)):
            assert not isinstance(node.get("default"), dict | list), path

    def test_conditions_are_a_map_by_type(self, crd: dict[str, Any]) -> None:
        conditions = schema_of(crd)["properties"]["status"]["properties"]["conditions"]
        assert conditions["x-kubernetes-list-type"] == "map"
        assert conditions["x-kubernetes-list-map-keys"] == ["type"]
        assert {"type", "status", "reason", "message", "lastTransitionTime"} <= set(conditions["items"]["required"])

    def test_every_column_names_a_field_of_the_schema(self, crd: dict[str, Any]) -> None:
        known = {path.partition("[")[0] for path, _ in nodes(schema_of(crd))}
        for column in crd["spec"]["versions"][0]["additionalPrinterColumns"]:
            path = column["jsonPath"].partition("[")[0]
            assert path in known or path.startswith(".metadata."), column

    def test_it_is_rendered_the_same_every_time_and_without_anchors(self, crd: dict[str, Any]) -> None:
        text = render(crd)
        assert text == render(json.loads(json.dumps(crd)))
        assert yaml.safe_load(text) == crd
        assert "&id" not in text
        assert "*id" not in text

    def test_it_has_a_status_of_its_own_and_is_found_by_its_short_name(self, crd: dict[str, Any]) -> None:
        assert crd["spec"]["versions"][0]["subresources"]["status"] == {}
        assert crd["spec"]["names"]["shortNames"] == ["nd" if "deployments" in crd["metadata"]["name"] else "na"]
        assert "nemotron" in crd["spec"]["names"]["categories"]


def test_kubectl_scale_finds_its_fields() -> None:
    version = deployment_crd()["spec"]["versions"][0]
    known = {path for path, _ in nodes(schema_of(deployment_crd()))}
    assert set(version["subresources"]["scale"].values()) <= known


@pytest.mark.parametrize("directory", COPIES, ids=lambda d: d.parent.name)
def test_the_generated_files_are_what_the_generator_writes(directory: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "nemotron_api.crd", str(tmp_path)], check=True)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written.keys() == {f"{name}.yaml" for name in CRDS}
    assert {path.name: path.read_text() for path in directory.iterdir()} == written


def test_the_reference_page_is_what_the_generator_writes(tmp_path: Path) -> None:
    page = tmp_path / "reference.md"
    subprocess.run([sys.executable, "-m", "nemotron_api.reference", str(page)], check=True)
    assert (REPOSITORY / "docs" / "reference.md").read_text() == page.read_text()


@pytest.mark.parametrize("path", sorted((REPOSITORY / "manifests" / "samples").glob("*.yaml")), ids=lambda p: p.stem)
def test_the_samples_are_deployments(path: Path) -> None:
    documents = [d for d in yaml.safe_load_all(path.read_text()) if d and d["kind"] == names.DEPLOYMENT_KIND]
    assert documents
    for document in documents:
        assert document["apiVersion"] == names.API_VERSION
        DeploymentSpec.model_validate(document["spec"])


@pytest.mark.parametrize("model", [DeploymentSpec, ArtifactSpec])
def test_the_schema_and_the_model_have_the_same_fields(model: Any) -> None:
    crd = deployment_crd() if model is DeploymentSpec else artifact_crd()
    fields = set(schema_of(crd)["properties"]["spec"]["properties"])
    assert fields == {field.alias for field in model.model_fields.values()}
