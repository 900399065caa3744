"""Opened weights are the file itself: mapped, aligned, checked, and nothing is held twice."""

import subprocess
import sys
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

REPOSITORY = Path(__file__).parents[2]


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


MEASURE = """
import sys
from pathlib import Path
from tests.builders.engines import mapped

def anonymous_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

before = anonymous_bytes()
tensors = mapped(Path(sys.argv[1]))
assert all(tensor.max() < 10 for tensor in tensors.values())
opened = anonymous_bytes()
copies = [tensor.clone() for tensor in tensors.values()]
print(opened - before, anonymous_bytes() - opened)
"""
"""A process of its own: in this one, freed memory is used again and nothing grows."""


def test_opened_weights_take_no_memory_beside_the_file(tmp_path: Path) -> None:
    # given 61 MB of weights, read to their last byte, and then the same in copies
    checkpoint = a_checkpoint(tmp_path / "checkpoint", vocab_size=190_000, hybrid_override_pattern="M")
    report = pack(checkpoint, tmp_path / "engine", dtype="FP32", max_batch=1, max_sequence_tokens=32)

    command = [sys.executable, "-c", MEASURE, str(tmp_path / "engine")]
    measured = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)

    opened, copied = (int(number) for number in measured.stdout.split())
    assert copied > 0.9 * report.weight_bytes
    assert opened < 0.5 * report.weight_bytes


def test_weights_off_the_cache_line_are_refused(original: Path, tmp_path: Path) -> None:
    packed(original, tmp_path)
    save_file(held(tmp_path), tmp_path / "weights.safetensors")

    with pytest.raises(EngineMismatch, match=r"is not aligned to 64: build the engine again"):
        open_engine(tmp_path)
