"""Pretended GPUs: the labels of feature discovery and the bytes of the device plugin protocol."""

from pathlib import Path

import pytest

from nemotron_devcluster.deviceplugin_api import messages
from nemotron_devcluster.gpu import PRODUCTS, Gpus

pytestmark = pytest.mark.unit


def test_a_node_with_gpus_is_labelled() -> None:
    labels = Gpus(8, "NVIDIA-B200").labels

    assert labels["nvidia.com/gpu.product"] == "NVIDIA-B200"
    assert labels["nvidia.com/gpu.count"] == "8"
    assert (labels["nvidia.com/gpu.compute.major"], labels["nvidia.com/gpu.compute.minor"]) == ("10", "0")


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_node_that_loses_its_gpus_loses_every_label(product: str) -> None:
    """In a merge patch null removes."""
    assert Gpus(1, product).labels.keys() == Gpus(0, product).labels.keys()
    assert set(Gpus(0, product).labels.values()) == {None}


def test_what_was_told_is_remembered(tmp_path: Path) -> None:
    assert Gpus.read(tmp_path / "gpus.json") == Gpus(0)

    Gpus(4, "NVIDIA-L4").write(tmp_path / "gpus.json")

    assert Gpus.read(tmp_path / "gpus.json") == Gpus(4, "NVIDIA-L4")


def test_messages_have_the_wire_format_of_the_kubelet() -> None:
    """Bytes written out by hand from v1beta1/api.proto: field number × 8 + 2, length, content."""
    types = messages()

    register = types["RegisterRequest"](version="v1beta1", endpoint="e", resource_name="r")
    assert register.SerializeToString() == b"\x0a\x07v1beta1\x12\x01e\x1a\x01r"
    devices = types["ListAndWatchResponse"](devices=[{"ID": "G", "health": "Healthy"}])
    assert devices.SerializeToString() == b"\x0a\x0c\x0a\x01G\x12\x07Healthy"
    response = types["AllocateResponse"]()
    response.container_responses.add(envs=[{"key": "K", "value": "V"}])
    assert response.SerializeToString() == b"\x0a\x08\x0a\x06\x0a\x01K\x12\x01V"
    asked = types["AllocateRequest"].FromString(b"\x0a\x04\x0a\x02G1")
    assert [list(container.devices_ids) for container in asked.container_requests] == [["G1"]]
