"""Weights and engines: what goes wrong is named, and mending the spec is all it takes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.installed import Installed
from tests.cluster.kit import CHECKPOINT, CommandFailed, Kube, a_deployment, names, wait_for

pytestmark = pytest.mark.cluster


def reason_is(kube: Kube, name: str, type_: str, reason: str) -> None:
    wait_for(lambda: kube.conditions(name).get(type_, {}).get("reason") == reason, 180, lambda: kube.story(name))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        pytest.param({"colour": "red"}, 'unknown field "spec.colour"', id="unknown-field"),
        pytest.param({"engine": {"precision": "FP7"}}, "Unsupported value", id="unknown-precision"),
        pytest.param({"replicas": 2, "scaling": {"max": 3}}, "replicas and scaling exclude each other", id="both"),
        pytest.param({"scaling": {"min": 4, "max": 2}}, "scaling.min is larger than scaling.max", id="min-above-max"),
        pytest.param(
            {"model": {"name": "tiny", "source": {"uri": "ftp://somewhere/tiny"}}},
            "pvc://<claim>/<path>",
            id="unknown-scheme",
        ),
    ],
)
def test_a_spec_that_cannot_be_is_refused_with_a_sentence(kube: Kube, spec: dict[str, object], says: str) -> None:
    with pytest.raises(CommandFailed) as refused:
        kube.apply(a_deployment("wrong", **spec))
    assert says in str(refused.value)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100_000])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(truncate, "WeightsInvalid", id="truncated"),
        pytest.param(flip_a_bit, "ChecksumMismatch", id="one-bit-flipped"),
    ],
)
def test_a_damaged_weights_file_is_named_and_a_corrected_spec_is_served(
    kube: Kube, models: Path, damage: Callable[[Path], None], reason: str
) -> None:
    shutil.copytree(CHECKPOINT, models / "broken")
    damage(models / "broken/model.safetensors")

    kube.apply(a_deployment("mended", model={"name": "tiny", "source": {"uri": "pvc://models/broken"}}))
    reason_is(kube, "mended", "WeightsReady", reason)
    wait_for(lambda: "lastFailure" in kube.get("nd", "mended")["status"], 30)
    assert "model.safetensors" in kube.conditions("mended")["WeightsReady"]["message"]
    assert kube.get("nd", "mended")["status"]["lastFailure"]["logTail"]
    assert not kube.items("deploy")

    kube.apply(a_deployment("mended"))
    kube.wait_ready("mended")
    assert "lastFailure" not in kube.get("nd", "mended")["status"]


def test_another_architecture_is_refused_by_name(kube: Kube, models: Path) -> None:
    shutil.copytree(CHECKPOINT, models / "llama")
    (models / "llama/SHA256SUMS").unlink()
    config = models / "llama/config.json"
    config.write_text(config.read_text().replace('"nemotron_h"', '"llama"'))

    kube.apply(a_deployment("foreign", model={"name": "tiny", "source": {"uri": "pvc://models/llama"}}))

    reason_is(kube, "foreign", "WeightsReady", "InvalidModel")
    assert "llama" in kube.conditions("foreign")["WeightsReady"]["message"]


def test_a_missing_secret_is_named(kube: Kube) -> None:
    source = {"uri": "pvc://models/tiny", "secretRef": {"name": "hub-token"}}
    kube.apply(a_deployment("secretive", model={"name": "tiny", "source": source}))

    reason_is(kube, "secretive", "WeightsReady", "SecretMissing")
    assert "hub-token" in kube.conditions("secretive")["WeightsReady"]["message"]


def test_deleting_a_deployment_while_it_builds_leaves_nothing_running(kube: Kube) -> None:
    kube.apply(a_deployment("short-lived"))
    wait_for(lambda: bool(kube.items("job")), 60)

    kube.run("delete", "nd", "short-lived")

    wait_for(lambda: not unfinished(kube) and not kube.items("pod") and not kube.items("svc"), 120)
    assert not kube.items("nd")


def unfinished(kube: Kube) -> list[str]:
    """Artifacts that are not ready; those that are stay for the next deployment."""

    def ready(artifact: dict[str, object]) -> bool:
        conditions = artifact.get("status", {}).get("conditions", ())  # type: ignore[attr-defined]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    return [name for a in kube.items("na") if not ready(a) for name in names([a])]


def test_an_operator_killed_while_building_goes_on_when_it_is_back(kube: Kube, operator: Installed) -> None:
    kube.apply(a_deployment("survivor"))
    wait_for(lambda: bool(kube.items("job")), 60)

    operator.kill()

    kube.wait_ready("survivor")
    assert len(kube.items("job")) == 2, "one Job for the weights and one for the engine, none twice"
