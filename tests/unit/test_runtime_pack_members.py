"""What some members have and others lack is packed too: a module that drafts, quantised weights, stacks of experts."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nemotron_api.errors import WeightsInvalid
from nemotron_runtime import pack
from tests.builders.checkpoints import a_checkpoint
from tests.builders.engines import held, mapped, packed
from tests.builders.members import edit, quantised, rewrite, with_mtp, with_stacked_experts

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def original(tmp_path_factory: Any) -> Path:
    return a_checkpoint(tmp_path_factory.mktemp("members") / "checkpoint")


@pytest.fixture
def checkpoint(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(original, tmp_path / "checkpoint"))


@pytest.mark.parametrize("pattern", ["*E", "E", "*-E*", "-"])
def test_the_module_that_drafts_is_packed_as_the_checkpoint_has_it(
    checkpoint: Path, tmp_path: Path, pattern: str
) -> None:
    with_mtp(checkpoint, pattern)
    original = load_file(checkpoint / "model.safetensors")

    report = pack(checkpoint, tmp_path / "engine", dtype="FP32", max_batch=2, max_sequence_tokens=32)

    engine = held(tmp_path / "engine")
    last = len(pattern) - 1
    assert report.mtp
    for packed_as, stored_as in (
        ("mtp.enorm.weight", "mtp.layers.0.enorm.weight"),
        ("mtp.hnorm.weight", "mtp.layers.0.hnorm.weight"),
        ("mtp.eh_proj.weight", "mtp.layers.0.eh_proj.weight"),
        (f"mtp.{last}.norm.weight", f"mtp.layers.{last}.norm.weight"),
        ("mtp.final_norm.weight", f"mtp.layers.{last}.final_layernorm.weight"),
    ):
        assert torch.equal(engine[packed_as], original[stored_as])
    drafting = sum(tensor.numel() for name, tensor in original.items() if name.startswith("mtp."))
    assert drafting == sum(tensor.numel() for name, tensor in engine.items() if name.startswith("mtp."))


def test_an_engine_without_the_module_that_drafts_says_so_and_opens(checkpoint: Path, tmp_path: Path) -> None:
    edit(checkpoint, num_nextn_predict_layers=1)

    report = pack(checkpoint, tmp_path / "engine", dtype="FP32", max_batch=2, max_sequence_tokens=32)

    opened = mapped(tmp_path / "engine")
    assert not report.mtp
    assert not [name for name in opened if name.startswith("mtp.")]


def test_a_module_that_drafts_and_lacks_a_tensor_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with_mtp(checkpoint)
    rewrite(checkpoint, lambda tensors: {name: tensors[name] for name in tensors if "final_layernorm" not in name})

    with pytest.raises(WeightsInvalid, match=r"mtp.layers.1.final_layernorm.weight is missing"):
        packed(checkpoint, tmp_path / "engine")


FORMATS = {
    "*.in_proj": "FP8",
    "*_latent_proj": "FP8",
    "*.experts.*": "NVFP4",
    "mtp.*_proj": "NVFP4",
    "lm_head": "NVFP4",
}
BLOCKS_OF_16: dict[str, Any] = {
    "hidden_size": 48,
    "moe_latent_size": 32,
    "moe_intermediate_size": 16,
    "moe_shared_expert_intermediate_size": 64,
}


@pytest.mark.parametrize("dtype", ["FP32", "BF16"])
def test_quantised_weights_pack_to_the_bytes_of_the_numbers_they_stand_for(tmp_path: Path, dtype: str) -> None:
    original = with_mtp(a_checkpoint(tmp_path / "checkpoint", **BLOCKS_OF_16))
    stored, decoded = quantised(original, FORMATS)

    expected = packed(decoded, tmp_path / "expected", dtype)

    assert packed(stored, tmp_path / "engine", dtype) == expected


@pytest.mark.parametrize("numbers", [1, 50, 1000])
def test_reading_some_rows_at_a_time_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: int
) -> None:
    original = with_mtp(rewrite(a_checkpoint(tmp_path / "checkpoint", **BLOCKS_OF_16), with_stacked_experts))
    stored, _ = quantised(original, {"*.in_proj": "FP8", "lm_head": "NVFP4"})
    expected = packed(stored, tmp_path / "expected")

    monkeypatch.setattr("nemotron_runtime.checkpoint.NUMBERS_AT_ONCE", numbers)

    assert packed(stored, tmp_path / "engine") == expected
