"""A checkpoint in any layout packs to the same engine; a damaged one is refused by a sentence that names the damage."""

import gc
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nemotron_api.errors import EngineMismatch, InvalidModel, InvalidSpec, WeightsInvalid
from nemotron_api.hybrid_config import read_config
from nemotron_api.layout import layout
from nemotron_runtime import open_engine, pack
from nemotron_runtime.config import load_config
from nemotron_runtime.tensorfile import read_tensors
from tests.builders.checkpoints import a_checkpoint
from tests.builders.members import Tensors, edit, quantised, renamed, rewrite, with_mtp

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def original(tmp_path_factory: Any) -> Path:
    return a_checkpoint(tmp_path_factory.mktemp("pack") / "checkpoint")


@pytest.fixture
def checkpoint(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "checkpoint"))


def packed(checkpoint: Path, out: Path, dtype: Any = "FP32") -> bytes:
    """The weights file of the packed engine."""
    pack(checkpoint, out, dtype=dtype, max_batch=2, max_sequence_tokens=32)
    return (out / "weights.safetensors").read_bytes()


def with_drafts_of_another_model(tensors: Tensors) -> Tensors:
    return tensors | {"mtp.layers.0.eh_proj.weight": torch.zeros(2, 2)}


def with_stacked_experts(tensors: Tensors) -> Tensors:
    """Experts as one tensor per projection, the way models hold them in memory."""
    others = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    for layer in (1, 4):
        for projection in ("up_proj", "down_proj"):
            names = [f"backbone.layers.{layer}.mixer.experts.{e}.{projection}.weight" for e in range(8)]
            others[f"backbone.layers.{layer}.mixer.experts.{projection}"] = torch.stack([tensors[n] for n in names])
    return others


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

    engine = load_file(tmp_path / "weights.safetensors")

    prefix = "backbone.layers.3.mixer."
    rows = [tensors[f"{prefix}{name}_proj.weight"] for name in "qkv"]
    assert torch.equal(engine["layers.3.mixer.qkv_proj.weight"], torch.cat(rows))
    expert = tensors["backbone.layers.1.mixer.experts.5.up_proj.weight"]
    assert torch.equal(engine["layers.1.mixer.experts.up_proj"][5], expert)
    numbers = sum(tensor.numel() for name, tensor in engine.items() if not name.startswith("padding."))
    assert numbers == sum(tensor.numel() for tensor in tensors.values())


def test_a_bf16_engine_keeps_in_fp32_what_is_computed_in_fp32(original: Path, tmp_path: Path) -> None:
    packed(original, tmp_path, "BF16")

    engine = load_file(tmp_path / "weights.safetensors")

    wide = {name.rsplit(".mixer.")[-1] for name, tensor in engine.items() if tensor.dtype == torch.float32}
    assert {"A_log", "D", "dt_bias", "gate.weight", "gate.e_score_correction_bias", "conv1d.weight"} <= wide
    assert engine["lm_head.weight"].dtype == engine["layers.0.mixer.in_proj.weight"].dtype == torch.bfloat16


def test_the_report_counts_what_was_written(original: Path, tmp_path: Path) -> None:
    report = pack(original, tmp_path, dtype="FP32", max_batch=3, max_sequence_tokens=50)

    engine = load_file(tmp_path / "weights.safetensors")
    numbers = sum(tensor.numel() for name, tensor in engine.items() if not name.startswith("padding."))
    assert report.parameters == numbers
    assert report.weight_bytes == 4 * report.parameters
    # 2 Mamba blocks: 6 · 10 · 12 states, 3 taps of 60 + 2 · 3 · 12 channels
    assert report.slot_bytes == 2 * 4 * (720 + 3 * 132)
    # 1 attention block: keys and values of 2 heads of 8
    assert (report.page_tokens, report.page_bytes) == (16, 16 * 2 * 2 * 8 * 4)
    assert report.pages == 3 * 4, "50 tokens are 4 pages"


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


def test_reading_checks_the_type_of_every_tensor(original: Path, tmp_path: Path) -> None:
    packed(original, tmp_path, "BF16")

    with pytest.raises(EngineMismatch, match=r"embeddings.weight .* is not what config.json says"):
        read_tensors(tmp_path / "weights.safetensors", layout(read_config(tmp_path)), torch.float32)


@pytest.mark.parametrize("pattern", ["*E", "E", "*-E*", "-"])
def test_the_module_that_drafts_is_packed_as_the_checkpoint_has_it(
    checkpoint: Path, tmp_path: Path, pattern: str
) -> None:
    with_mtp(checkpoint, pattern)
    original = load_file(checkpoint / "model.safetensors")

    report = pack(checkpoint, tmp_path / "engine", dtype="FP32", max_batch=2, max_sequence_tokens=32)

    engine = load_file(tmp_path / "engine" / "weights.safetensors")
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
    drop("mtp.layers.1.final_layernorm.weight")(checkpoint)

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


def mapped(directory: Path) -> Tensors:
    config = load_config(directory)
    return read_tensors(
        directory / "weights.safetensors", layout(read_config(directory)), getattr(torch, TORCH_NAMES[config.dtype])
    )


TORCH_NAMES = {"FP32": "float32", "BF16": "bfloat16"}


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
    file = tmp_path / "weights.safetensors"
    save_file({name: each for name, each in load_file(file).items() if not name.startswith("padding.")}, file)

    with pytest.raises(EngineMismatch, match=r"is not aligned to 64: build the engine again"):
        open_engine(tmp_path)


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        ("FP16", "precision FP16: FP16 ends at 65504, and ReLU² .* use FP32 or BF16"),
        ("NVFP4", "precision NVFP4: NVFP4 weights are served decoded; use FP32 or BF16"),
        ("FP12", "precision FP12: unknown"),
    ],
)
def test_a_precision_that_gives_wrong_tokens_is_refused(original: Path, tmp_path: Path, dtype: str, says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        packed(original, tmp_path / "engine", dtype)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dtype": "FP16"}, "ReLU²"),
        ({"state_dtype": "BF16"}, "state precision BF16: a BF16 state loses every small step"),
        ({"state_dtype": "FP16"}, "stochastic rounding"),
    ],
)
def test_an_engine_of_such_a_precision_is_not_opened(
    original: Path, tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    packed(original, tmp_path)
    edit(tmp_path, "runtime.json", **changes)

    with pytest.raises(EngineMismatch, match=says):
        open_engine(tmp_path)
