"""Which volumes are made and removed, and what they look like."""

from pathlib import Path
from typing import Any

import pytest

from nemotron_devcluster.storage import Provision, Remove, plan, volume

pytestmark = pytest.mark.unit


def a_claim(uid: str = "1", storage_class: str | None = "local", bound_to: str | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    if bound_to is not None:
        spec["volumeName"] = bound_to
    return {"metadata": {"namespace": "default", "name": "models", "uid": uid}, "spec": spec}


def a_volume(name: str = "pvc-1", phase: str = "Bound", storage_class: str = "local") -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"storageClassName": storage_class}, "status": {"phase": phase}}


@pytest.mark.parametrize(
    ("claims", "volumes", "expected"),
    [
        pytest.param([], [], [], id="nothing-to-do"),
        pytest.param([a_claim()], [], [Provision(a_claim())], id="a-new-claim-gets-a-volume"),
        pytest.param([a_claim()], [a_volume(phase="Available")], [], id="its-volume-waits-to-be-bound"),
        pytest.param([a_claim(bound_to="pvc-1")], [a_volume()], [], id="bound"),
        pytest.param([a_claim(storage_class="other")], [], [], id="another-class"),
        pytest.param([a_claim(storage_class=None)], [], [], id="no-class"),
        pytest.param([], [a_volume(phase="Released")], [Remove(a_volume(phase="Released"))], id="its-claim-is-gone"),
        pytest.param([], [a_volume(phase="Released", storage_class="other")], [], id="another-class-released"),
    ],
)
def test_plan(claims: list[Any], volumes: list[Any], expected: list[Any]) -> None:
    assert list(plan(claims, volumes)) == expected


def test_a_volume_is_for_its_claim_alone_and_for_every_node() -> None:
    made = volume(a_claim(uid="7"), Path("/volumes/pvc-7"))

    assert made["metadata"]["name"] == "pvc-7"
    assert made["spec"]["claimRef"]["uid"] == "7"
    assert made["spec"]["accessModes"] == ["ReadWriteMany"]
    assert made["spec"]["capacity"] == {"storage": "1Gi"}
    assert made["spec"]["local"] == {"path": "/volumes/pvc-7"}
    (term,) = made["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]
