"""An image's identity is its content, in the form containerd computes it."""

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nemotron_devcluster.image import Image
from nemotron_devcluster.layer import Layer, LayerStore

pytestmark = pytest.mark.unit


def a_layer(name: str = "base", key: str = "1") -> Layer:
    return Layer(name, key, lambda tree: tree.joinpath("file").touch())


def an_image(*layers: Layer, **changes: Any) -> Image:
    return replace(Image("localhost/thing", layers or (a_layer(),), entrypoint=("/thing",)), **changes)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(an_image(a_layer(key="2")), id="another-layer"),
        pytest.param(an_image(a_layer(), a_layer("code")), id="one-more-layer"),
        pytest.param(an_image(entrypoint=("/other",)), id="another-entrypoint"),
        pytest.param(an_image(environment={"A": "1"}), id="another-variable"),
        pytest.param(an_image(user="1:1"), id="another-user"),
    ],
)
def test_whatever_changes_the_image_changes_its_reference(other: Image) -> None:
    assert other.reference != an_image().reference
    assert an_image().reference == an_image().reference


def test_chain_ids_follow_the_oci_rule() -> None:
    image = an_image(a_layer("base"), a_layer("environment"), a_layer("code"))

    first, second, third = image.diff_ids
    assert image.chain_ids[0] == first
    assert image.chain_ids[1] == "sha256:" + hashlib.sha256(f"{first} {second}".encode()).hexdigest()
    assert image.chain_ids[2] == "sha256:" + hashlib.sha256(f"{image.chain_ids[1]} {third}".encode()).hexdigest()


def test_an_archive_describes_the_image_and_holds_no_layer() -> None:
    image = an_image(a_layer("base"), a_layer("code"))

    with tarfile.open(fileobj=io.BytesIO(image.archive())) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]

    entry = json.loads(files["index.json"])["manifests"][0]
    assert entry["annotations"] == {"io.containerd.image.name": image.reference}
    manifest = files[f"blobs/sha256/{entry['digest'].removeprefix('sha256:')}"]
    assert hashlib.sha256(manifest).hexdigest() == entry["digest"].removeprefix("sha256:")
    assert [layer["digest"] for layer in json.loads(manifest)["layers"]] == list(image.diff_ids)
    config = json.loads(manifest)["config"]["digest"].removeprefix("sha256:")
    assert files[f"blobs/sha256/{config}"] == image.config
    assert len(files) == 4


def test_a_layer_is_built_once(tmp_path: Path) -> None:
    built: list[Path] = []
    layer, store = Layer("base", "1", built.append), LayerStore(tmp_path)

    assert store.ensure(layer) == store.ensure(layer) == tmp_path / "base-1"
    assert len(built) == 1


def test_a_layer_that_fails_to_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(tree: Path) -> None:
        tree.joinpath("half").touch()
        raise ValueError("no disk")

    with pytest.raises(ValueError, match="no disk"):
        LayerStore(tmp_path).ensure(Layer("base", "1", fail))
    assert not list(tmp_path.iterdir())
