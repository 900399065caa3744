"""Opened weights are the file itself: mapped, aligned, checked, and nothing is held twice."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from nemotron_api.errors import EngineMismatch
from nemotron_api.hybrid_config import read_config
from nemotron_api.layout import layout
from nemotron_runtime import open_engine, pack
from nemotron_runtime.tensorfile import read_tensors
from tests.builders.checkpoints import a_checkpoint
from tests.builders.engines import held, mapped, packed

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def original(tmp_path_factory: Any) -> Path:
    return a_checkpoint(tmp_path_factory.mktemp("tensorfile") / "checkpoint")


def test_reading_checks_the_type_of_every_tensor(original: Path, tmp_path: Path) -> None:
    packed(original, tmp_path, "BF16")

    with pytest.raises(EngineMismatch, match=r"embeddings.weight .* is not what config.json says"):
        read_tensors(tmp_path / "weights.safetensors", layout(read_config(tmp_path)), torch.float32)


@pytest.mark.parametrize("dtype", ["FP32", "BF16"])
def test_opened_weights_are_views_of_the_file_each_on_a_cache_line(original: Path, tmp_path: Path, dtype: str) -> None:
    packed(original, tmp_path, dtype)

    tensors = mapped(tmp_path)

    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    places = [
        tuple(int(border, 16) for border in line[0].split("-"))
        for line in lines
        if line[-1] == str(tmp_path / "weights.safetensors")
    ]
    for tensor in tensors.values():
        first, last = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        assert any(begin <= first and last <= end for begin, end in places)
        assert first % 64 == 0


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0]) * 1024


def test_opened_weights_take_no_memory_beside_the_files(tmp_path: Path) -> None:
    # given 61 MB of weights, read to their last byte
    report = pack(
        a_checkpoint(tmp_path / "checkpoint", vocab_size=190_000, hybrid_override_pattern="M"),
        tmp_path / "engine",
        dtype="FP32",
        max_batch=1,
        max_sequence_tokens=32,
    )
    gc.collect()
    before = anonymous_bytes()

    tensors = mapped(tmp_path / "engine")
    for tensor in tensors.values():
        assert tensor.max() < 10

    grown = anonymous_bytes() - before
    copies = [tensor.clone() for tensor in tensors.values()]
    assert sum(copy.nbytes for copy in copies) == report.weight_bytes
    assert anonymous_bytes() - before > 0.9 * report.weight_bytes
    assert grown < 0.5 * report.weight_bytes


def test_weights_off_the_cache_line_are_refused(original: Path, tmp_path: Path) -> None:
    packed(original, tmp_path)
    save_file(held(tmp_path), tmp_path / "weights.safetensors")

    with pytest.raises(EngineMismatch, match=r"is not aligned to 64: build the engine again"):
        open_engine(tmp_path)
