"""A checkpoint in any layout packs to the same engine; a damaged one is refused by a sentence that names the damage."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nemotron_api.errors import EngineMismatch, InvalidModel, WeightsInvalid
from nemotron_api.hybrid_config import read_config
from nemotron_runtime import open_engine, pack
from nemotron_runtime.config import load_config
from nemotron_runtime.executor import open_executor
from nemotron_runtime.tails import MOST_TAPS, check_taps
from tests.builders.checkpoints import a_checkpoint
from tests.builders.engines import held, packed
from tests.builders.members import Tensors, edit, renamed, rewrite, with_mtp, with_stacked_experts

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def original(tmp_path_factory: Any) -> Path:
    return a_checkpoint(tmp_path_factory.mktemp("pack") / "checkpoint")


@pytest.fixture
def checkpoint(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "checkpoint"))


def with_drafts_of_another_model(tensors: Tensors) -> Tensors:
    return tensors | {"mtp.layers.0.eh_proj.weight": torch.zeros(2, 2)}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(renamed("backbone.", "model."), id="prefix-model"),
        pytest.param(renamed("backbone.", ""), id="no-prefix"),
        pytest.param(with_drafts_of_another_model, id="with-a-module-config-json-lacks"),
        pytest.param(with_stacked_experts, id="stacked-experts"),
        pytest.param(lambda tensors: {name: tensor.double() for name, tensor in tensors.items()}, id="in-fp64"),
    ],
)
def test_every_layout_of_a_checkpoint_packs_to_the_same_bytes(
    original: Path, checkpoint: Path, tmp_path: Path, change: Callable[[Tensors], Tensors]
) -> None:
    expected = packed(original, tmp_path / "expected")

    assert packed(rewrite(checkpoint, change), tmp_path / "engine") == expected


def test_shards_pack_to_the_same_bytes(original: Path, tmp_path: Path) -> None:
    sharded = a_checkpoint(tmp_path / "sharded", shard_size="20KB")

    assert len(list(sharded.glob("*.safetensors"))) > 3
    assert packed(sharded, tmp_path / "engine") == packed(original, tmp_path / "expected")


def test_a_packed_engine_holds_the_checkpoints_numbers(original: Path, tmp_path: Path) -> None:
    tensors = load_file(original / "model.safetensors")
    packed(original, tmp_path)

    engine = held(tmp_path)

    prefix = "backbone.layers.3.mixer."
    rows = [tensors[f"{prefix}{name}_proj.weight"] for name in "qkv"]
    assert torch.equal(engine["layers.3.mixer.qkv_proj.weight"], torch.cat(rows))
    expert = tensors["backbone.layers.1.mixer.experts.5.up_proj.weight"]
    assert torch.equal(engine["layers.1.mixer.experts.up_proj"][5], expert)
    assert sum(tensor.numel() for tensor in engine.values()) == sum(tensor.numel() for tensor in tensors.values())


def test_a_bf16_engine_keeps_in_fp32_what_is_computed_in_fp32(original: Path, tmp_path: Path) -> None:
    packed(original, tmp_path, "BF16")

    engine = held(tmp_path)

    wide = {name.rsplit(".mixer.")[-1] for name, tensor in engine.items() if tensor.dtype == torch.float32}
    assert {"A_log", "D", "dt_bias", "gate.weight", "gate.e_score_correction_bias", "conv1d.weight"} <= wide
    assert engine["lm_head.weight"].dtype == engine["layers.0.mixer.in_proj.weight"].dtype == torch.bfloat16


def test_the_report_counts_what_was_written(original: Path, tmp_path: Path) -> None:
    report = pack(original, tmp_path, dtype="FP32", max_batch=3, max_sequence_tokens=50)

    assert report.parameters == sum(tensor.numel() for tensor in held(tmp_path).values())
    assert report.weight_bytes == 4 * report.parameters
    # 2 Mamba blocks: states and where they stand, then a ring's taps, x and B, L and K
    states, rings = 6 * (10 * 12 * 4 + 8), 48 * (132 + 60 + 36) * 4 + 48 * 6 * 2 * 8
    assert report.slot_bytes == 2 * (states + rings)
    # 1 attention block: keys and values of 2 heads of 8
    assert (report.page_tokens, report.page_bytes) == (16, 16 * 2 * 2 * 8 * 4)
    assert report.pages == 3 * 4, "50 tokens are 4 pages"


@pytest.mark.parametrize(
    ("formats", "state_bytes", "element_bytes"),
    [
        ({"dtype": "FP32"}, 720 * 4, 4),
        ({"dtype": "BF16"}, 720 * 4, 2),
        ({"dtype": "BF16", "state_dtype": "FP16"}, 720 * 2, 2),
        ({"dtype": "BF16", "state_dtype": "INT8", "kv_dtype": "FP8"}, 720 + 6 * 4, 1),
    ],
)
def test_the_report_counts_what_the_memory_takes(
    original: Path, tmp_path: Path, formats: dict[str, Any], state_bytes: int, element_bytes: int
) -> None:
    report = pack(original, tmp_path, max_batch=3, max_sequence_tokens=50, **formats)

    memory = open_executor(tmp_path, load_config(tmp_path))[1].memory
    assert (report.slot_bytes, report.page_bytes) == (memory.slot_bytes, memory.page_bytes)
    assert report.page_bytes == 16 * 2 * 2 * 8 * element_bytes
    states = [part for ring in memory.rings for part in ring.states.parts]
    assert sum(part[0].nbytes for part in states) == 2 * state_bytes


def test_the_report_counts_the_pages_of_a_draft_module(checkpoint: Path, tmp_path: Path) -> None:
    report = pack(with_mtp(checkpoint), tmp_path / "engine", dtype="FP32", max_batch=3, max_sequence_tokens=50)

    memory = open_executor(tmp_path / "engine", load_config(tmp_path / "engine"))[1].memory
    assert report.mtp
    assert report.page_bytes == memory.page_bytes == 2 * 16 * 2 * 2 * 8 * 4


def test_end_tokens_come_from_both_config_files(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 11]}))

    packed(checkpoint, tmp_path / "engine")

    assert load_config(tmp_path / "engine").eos_token_ids == (2, 11)


def truncate(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def drop(name: str) -> Callable[[Path], object]:
    return lambda path: rewrite(path, lambda tensors: {key: tensors[key] for key in tensors if key != name})


def add(name: str, tensor: Tensor) -> Callable[[Path], object]:
    return lambda path: rewrite(path, lambda tensors: tensors | {name: tensor})


def index(content: str) -> Callable[[Path], object]:
    return lambda path: (path / "model.safetensors.index.json").write_text(content)


LM_HEAD = "lm_head.weight"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(truncate, "model.safetensors is truncated or not a safetensors file", id="truncated"),
        pytest.param(
            lambda path: (path / "model.safetensors").write_bytes(b"PK" * 50), "model.safetensors is trunc", id="zip"
        ),
        pytest.param(lambda path: (path / "model.safetensors").unlink(), "neither model.safetensors nor", id="no-file"),
        pytest.param(index('{"weight_map": {"a": "b.safetensors"}}'), "b.safetensors is named by", id="no-shard"),
        pytest.param(index("{}"), "is not an index of shards", id="broken-index"),
        pytest.param(drop(LM_HEAD), "tensor lm_head.weight is missing", id="missing-tensor"),
        pytest.param(
            add("lm_head.weight_scale", torch.ones(1)),
            "tensor lm_head.weight_scale in .* scales a weight that is F32",
            id="quantised",
        ),
        pytest.param(add(LM_HEAD, torch.ones(61, 41)), r"shape \[61, 41\], .* asks for \[61, 40\]", id="shape"),
        pytest.param(
            add(LM_HEAD, torch.ones(61, 40, dtype=torch.int8)),
            "lm_head.weight in .* is I8: weights may be",
            id="integers",
        ),
        pytest.param(
            add("model.norm_f.weight", torch.ones(40)),
            "norm_f.weight is in .* as backbone.norm_f.weight and in .* as model.norm_f.weight",
            id="twice",
        ),
    ],
)
def test_a_damaged_checkpoint_is_refused_and_the_file_or_tensor_named(
    checkpoint: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(checkpoint)

    with pytest.raises(WeightsInvalid, match=message):
        packed(checkpoint, tmp_path / "engine")


def test_a_generation_config_that_is_not_json_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "generation_config.json").write_text("{")

    with pytest.raises(InvalidModel, match=r"generation_config.json is not JSON"):
        packed(checkpoint, tmp_path / "engine")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda path: (path / "runtime.json").unlink(), "holds no engine this runtime can open", id="none"),
        pytest.param(
            lambda path: (path / "runtime.json").write_text('{"dtype": "FP32"}'), "holds no engine", id="other-version"
        ),
        pytest.param(
            lambda path: (path / "weights.safetensors").unlink(), "weights.safetensors cannot be", id="weights"
        ),
        pytest.param(
            lambda path: save_file({"lm_head.weight": torch.ones(1)}, path / "weights.safetensors"),
            "weights.safetensors cannot be read",
            id="other-weights",
        ),
        pytest.param(
            lambda path: edit(path, "runtime.json", pages=1),
            "has 1 pages, but one sequence of 32 tokens needs 2",
            id="too-few-pages",
        ),
    ],
)
def test_a_directory_that_is_no_engine_is_refused(
    original: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    packed(original, tmp_path)
    damage(tmp_path)

    with pytest.raises(EngineMismatch, match=message):
        open_engine(tmp_path)


def test_a_convolution_that_looks_back_further_than_a_ring_is_refused_before_anything_is_written(
    checkpoint: Path, tmp_path: Path
) -> None:
    edit(checkpoint, "config.json", conv_kernel=MOST_TAPS + 2)

    with pytest.raises(InvalidModel, match=f"conv_kernel is {MOST_TAPS + 2}, .* conv_kernel up to {MOST_TAPS + 1}"):
        packed(checkpoint, tmp_path / "engine")

    assert not (tmp_path / "engine").exists()


def test_an_engine_whose_convolution_looks_back_too_far_is_not_opened(original: Path, tmp_path: Path) -> None:
    packed(original, tmp_path)
    edit(tmp_path, "config.json", conv_kernel=MOST_TAPS + 2)

    with pytest.raises(InvalidModel, match=f"serves models with conv_kernel up to {MOST_TAPS + 1}"):
        open_engine(tmp_path)


def test_a_model_without_mamba_has_no_taps_to_keep(original: Path) -> None:
    config = read_config(original)

    check_taps(replace(config, pattern="*-", conv_kernel=99))
