"""The demo's checkpoint is whole, small, and has every part of the real architecture in the family's spelling."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from nemotron_api.hybrid_config import read_config

pytestmark = pytest.mark.contract

CHECKPOINT = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"
EXPERTS = 16

# Shapes of one layer of each kind; {k} stands for every expert.
Shapes = dict[str, tuple[int, ...]]
NORM: Shapes = {"norm.weight": (128,)}
MAMBA = NORM | {
    "mixer.A_log": (6,),
    "mixer.D": (6,),
    "mixer.dt_bias": (6,),
    "mixer.conv1d.bias": (320,),
    "mixer.conv1d.weight": (320, 1, 4),
    "mixer.in_proj.weight": (518, 128),
    "mixer.norm.weight": (192,),
    "mixer.out_proj.weight": (128, 192),
}
ATTENTION = NORM | {
    "mixer.q_proj.weight": (288, 128),
    "mixer.k_proj.weight": (96, 128),
    "mixer.v_proj.weight": (96, 128),
    "mixer.o_proj.weight": (128, 288),
}
MOE = NORM | {
    "mixer.gate.weight": (16, 128),
    "mixer.gate.e_score_correction_bias": (16,),
    "mixer.fc1_latent_proj.weight": (48, 128),
    "mixer.fc2_latent_proj.weight": (128, 48),
    "mixer.experts.{k}.up_proj.weight": (96, 48),
    "mixer.experts.{k}.down_proj.weight": (48, 96),
    "mixer.shared_experts.up_proj.weight": (192, 128),
    "mixer.shared_experts.down_proj.weight": (128, 192),
}
ENDS = {"backbone.embeddings.weight": (272, 128), "backbone.norm_f.weight": (128,), "lm_head.weight": (272, 128)}
DRAFT_ENDS = {
    "mtp.layers.0.enorm.weight": (128,),
    "mtp.layers.0.hnorm.weight": (128,),
    "mtp.layers.0.eh_proj.weight": (128, 256),
    "mtp.layers.1.final_layernorm.weight": (128,),
}
KINDS: dict[str, Shapes] = {"M": MAMBA, "*": ATTENTION, "E": MOE}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    stored: dict[str, Tensor] = load_file(CHECKPOINT / "model.safetensors")
    return stored


def layers(prefix: str, pattern: str) -> Shapes:
    """Names and shapes of the layers that `pattern` spells."""
    return {
        f"{prefix}.layers.{i}.{name}".format(k=expert): shape
        for i, letter in enumerate(pattern)
        for name, shape in KINDS[letter].items()
        for expert in (range(EXPERTS) if "{k}" in name else [0])
    }


def test_every_file_is_the_one_that_was_published() -> None:
    lines = [line.split("  ") for line in (CHECKPOINT / "SHA256SUMS").read_text().splitlines()]
    present = sorted(path.name for path in CHECKPOINT.iterdir() if path.name != "SHA256SUMS")

    assert [name for _, name in lines] == present
    for digest, name in lines:
        assert hashlib.sha256((CHECKPOINT / name).read_bytes()).hexdigest() == digest, name


def test_the_weights_fit_in_four_megabytes() -> None:
    assert (CHECKPOINT / "model.safetensors").stat().st_size <= 4_000_000


def test_every_part_of_the_architecture_is_there(weights: dict[str, Tensor]) -> None:
    expected = ENDS | DRAFT_ENDS | layers("backbone", "MEM*EME") | layers("mtp", "*E")

    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == expected


def test_only_what_the_family_keeps_in_fp32_is_fp32(weights: dict[str, Tensor]) -> None:
    kept = ("A_log", "dt_bias", "D", "e_score_correction_bias")

    for name, tensor in weights.items():
        assert tensor.dtype == (torch.float32 if name.endswith(kept) else torch.bfloat16), name


def test_every_number_is_finite_and_no_tensor_was_left_untrained(weights: dict[str, Tensor]) -> None:
    for name, tensor in weights.items():
        assert tensor.isfinite().all(), name
        assert tensor.float().std() > 0, name


def test_every_router_has_a_selection_bias(weights: dict[str, Tensor]) -> None:
    biases = {name: tensor for name, tensor in weights.items() if name.endswith("e_score_correction_bias")}

    assert len(biases) == 4
    for name, bias in biases.items():
        assert bias.abs().max() > 0.01, name


def test_widths_that_wrong_engines_confuse_differ() -> None:
    config = read_config(CHECKPOINT / "config.json")

    assert config.hidden_size != config.attention_heads * config.head_dim
    assert config.d_inner != 2 * config.hidden_size
    assert config.groups not in (1, config.mamba_heads)
    assert len({config.latent_size, config.expert_size, config.hidden_size}) == 3
    assert config.router_scale != 1


def test_the_layers_are_spelt_as_a_pattern_and_as_a_list() -> None:
    config = json.loads((CHECKPOINT / "config.json").read_text())
    words = {"M": "linear_attention", "*": "full_attention", "E": "moe"}

    assert [words[letter] for letter in config["hybrid_override_pattern"]] == config["layers_block_type"]
    assert [words[letter] for letter in config["mtp_hybrid_override_pattern"]] == config["mtp_layers_block_type"]
    assert config["num_hidden_layers"] == len(config["layers_block_type"])


def test_generation_ends_at_either_end_token() -> None:
    assert json.loads((CHECKPOINT / "generation_config.json").read_text())["eos_token_id"] == [2, 11]
