"""Checkpoints that NVIDIA's Model Optimizer quantised and exported give the tokens of its own quantised model."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nemotron_api.errors import InvalidModel, NemotronError, WeightsInvalid
from nemotron_api.hybrid_config import read_config
from nemotron_api.layout import sources
from nemotron_build.checkpoint import inspect
from nemotron_build.folder import Folder
from nemotron_runtime import PackReport, SamplingParams, open_engine, pack
from nemotron_runtime.checkpoint import open_checkpoint
from tests.builders.exactness import unexpected_tokens
from tests.builders.members import edit, rewrite
from tests.builders.numbers import FP32_ROUNDING, error
from tests.builders.oracle import fp64_logits
from tests.builders.streams import generate

pytestmark = pytest.mark.contract

FIXTURES = Path(__file__).parents[1] / "fixtures" / "quantised"
NAMES = ("fp8", "nvfp4", "mixed")
DECODED = {"fp8": {"FP8": 102_144}, "nvfp4": {"NVFP4": 102_144}, "mixed": {"FP8": 59_136, "NVFP4": 16_384}}
"""Parameters by the format they are stored in, counted by hand from the exports' recipes."""


def packed(checkpoint: Path, out: Path) -> PackReport:
    return pack(checkpoint, out, dtype="FP32", max_batch=4, max_sequence_tokens=128)


def answers(engine_directory: Path, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    engine = open_engine(engine_directory, threads=1)
    found = generate(engine, prompts, SamplingParams(max_tokens=tokens, ignore_eos=True))
    engine.close()
    return found


def expected(name: str) -> tuple[list[int], Tensor]:
    """Tokens (l) and Model Optimizer's FP32 logits (l, vocabulary) after each."""
    tensors = load_file(FIXTURES / name / "expected.safetensors")
    return tensors["tokens"].tolist(), tensors["logits"]


def decoded(name: str, folder: Path) -> Path:
    """The checkpoint in FP32, as a plain one."""
    source = FIXTURES / name
    opened = open_checkpoint(source, read_config(source))
    folder.mkdir()
    wanted = sources(opened.contents.layout)
    numbers = {each: torch.cat(list(opened.read(wanted[each]))) for each in wanted}
    save_file(numbers, folder / "model.safetensors")
    shutil.copyfile(source / "config.json", folder / "config.json")
    return edit(folder, quantization_config=None)


@pytest.mark.parametrize("name", NAMES)
def test_decoded_weights_compute_what_the_optimizers_own_model_computes(name: str, tmp_path: Path) -> None:
    tokens, logits = expected(name)

    computed = fp64_logits(decoded(name, tmp_path / "decoded"), tokens)

    assert error(logits, computed) < FP32_ROUNDING


@pytest.mark.parametrize("name", NAMES)
def test_the_engine_chooses_what_the_optimizers_own_model_chooses(name: str, tmp_path: Path) -> None:
    tokens, logits = expected(name)

    report = packed(FIXTURES / name, tmp_path)

    chosen = answers(tmp_path, [tokens[:length] for length in range(1, len(tokens) + 1)], 1)
    assert unexpected_tokens(logits, [token for (token,) in chosen]) == []
    assert report.dequantised == DECODED[name]


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_of_the_same_numbers_in_fp32_gives_the_same_tokens(name: str, tmp_path: Path) -> None:
    tokens, _ = expected(name)
    prompts = [tokens[:1], tokens[:17], tokens]

    packed(FIXTURES / name, tmp_path / "quantised")
    plain = packed(decoded(name, tmp_path / "decoded"), tmp_path / "plain")

    assert answers(tmp_path / "quantised", prompts, 40) == answers(tmp_path / "plain", prompts, 40)
    assert plain.dequantised == {}


@pytest.mark.parametrize("name", NAMES)
def test_the_build_accepts_it_before_it_copies(name: str, tmp_path: Path) -> None:
    checkpoint = with_tokenizer(name, tmp_path)

    assert inspect(Folder(checkpoint, checkpoint)).parameters == packed(checkpoint, tmp_path / "out").parameters


@pytest.mark.parametrize("name", NAMES)
def test_the_older_file_alone_says_the_same(name: str, tmp_path: Path) -> None:
    packed(FIXTURES / name, tmp_path / "expected")
    checkpoint = edit(with_tokenizer(name, tmp_path), quantization_config=None)

    packed(checkpoint, tmp_path / "engine")

    file = "weights.safetensors"
    assert (tmp_path / "engine" / file).read_bytes() == (tmp_path / "expected" / file).read_bytes()


def with_tokenizer(name: str, folder: Path) -> Path:
    """A copy that a test may damage and the build would take."""
    copy = Path(shutil.copytree(FIXTURES / name, folder / name))
    (copy / "expected.safetensors").unlink()
    (copy / "tokenizer.json").write_text("{}")
    return copy


Damage = Callable[[Path], object]

IN_PROJ = "backbone.layers.0.mixer.in_proj"
EXPERT = "backbone.layers.1.mixer.experts.0.up_proj"


def without(*names: str) -> Damage:
    return lambda path: rewrite(path, lambda tensors: {key: tensors[key] for key in tensors if key not in names})


def put(name: str, tensor: Tensor) -> Damage:
    return lambda path: rewrite(path, lambda tensors: tensors | {name: tensor})


HEADERS = [
    pytest.param("fp8", without(f"{IN_PROJ}.weight_scale"), r"in_proj\.weight_scale is missing", id="no-scale"),
    pytest.param("nvfp4", without(f"{EXPERT}.weight_scale_2"), r"up_proj\.weight_scale_2 is missing", id="no-scale-2"),
    pytest.param(
        "nvfp4",
        put(f"{EXPERT}.weight_scale", torch.zeros(32, 3).to(torch.float8_e4m3fn)),
        r"up_proj\.weight_scale in model\.safetensors has shape \[32, 3\], config\.json asks for \[32, 2\]",
        id="wrong-block-count",
    ),
    pytest.param(
        "mixed",
        put(f"{EXPERT}.weight", torch.zeros(32, 32)),
        r"experts\.0\.up_proj\.weight in .* is F32, but .* quantises it as NVFP4",
        id="quantised-in-config-alone",
    ),
    pytest.param(
        "fp8",
        put("lm_head.weight", torch.zeros(61, 64).to(torch.float8_e4m3fn)),
        r"lm_head\.weight in .* is F8_E4M3, but .* leaves it in floating point",
        id="quantised-against-the-config",
    ),
    pytest.param(
        "fp8", lambda path: edit(path, quantization_config={"quant_method": "awq"}), "quant_method 'awq'", id="awq"
    ),
]

NUMBERS = [
    pytest.param(
        "fp8",
        put(f"{IN_PROJ}.weight_scale", torch.tensor(float("nan"))),
        r"the scale of tensor layers\.0\.mixer\.in_proj\.weight is nan",
        id="no-number",
    ),
    pytest.param("nvfp4", put(f"{EXPERT}.weight_scale_2", torch.tensor(0.0)), r"up_proj\.weight is 0\.0", id="zero"),
]


@pytest.mark.parametrize(("name", "damage", "says"), HEADERS)
def test_what_does_not_fit_is_refused_by_build_and_runtime_in_the_same_words(
    name: str, damage: Damage, says: str, tmp_path: Path
) -> None:
    checkpoint = with_tokenizer(name, tmp_path)
    damage(checkpoint)

    with pytest.raises((WeightsInvalid, InvalidModel), match=says) as by_build:
        inspect(Folder(checkpoint, checkpoint))
    with pytest.raises(NemotronError, match=says) as by_runtime:
        packed(checkpoint, tmp_path / "engine")

    assert (type(by_build.value), str(by_build.value)) == (type(by_runtime.value), str(by_runtime.value))


@pytest.mark.parametrize(("name", "damage", "says"), NUMBERS)
def test_a_scale_that_cannot_be_is_refused_when_it_is_read(
    name: str, damage: Damage, says: str, tmp_path: Path
) -> None:
    checkpoint = with_tokenizer(name, tmp_path)
    damage(checkpoint)

    with pytest.raises(WeightsInvalid, match=says):
        packed(checkpoint, tmp_path / "engine")
