"""One table names every tensor of the family, in checkpoints and in engines."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api.catalogue import (
    LIGHTNING,
    NANO,
    NANO_2_9B,
    NANO_2_12B,
    NANO_4B,
    NEMOTRON_H_8B,
    SUPER,
    ULTRA,
)
from nemotron_api.hybrid_config import HybridConfig, read_config
from nemotron_api.layout import MTP, layout, sources, without_mtp

pytestmark = pytest.mark.unit

PUBLISHED = {
    "nano": (NANO, 31_577_940_288),
    "lightning": (LIGHTNING, 32_913_266_240),
    "super": (SUPER, 123_611_033_088),
    "nano-4b": (NANO_4B, 3_973_556_832),
}
ROUNDED = {
    "ultra": (ULTRA, 560.5),
    "nemotron-h-8b": (NEMOTRON_H_8B, 8.10),
    "nano-2-9b": (NANO_2_9B, 8.89),
    "nano-2-12b": (NANO_2_12B, 12.31),
}

EVERY_KIND = SUPER | {"intermediate_size": 64, "n_routed_experts": 3, "num_experts_per_tok": 2}
PATTERNS = st.text("ME*-", min_size=1, max_size=8)
DRAFTS = st.text("E*-", max_size=4)
FLAGS = st.fixed_dictionaries(
    {
        "use_bias": st.booleans(),
        "mlp_bias": st.booleans(),
        "attention_bias": st.booleans(),
        "use_conv_bias": st.booleans(),
        "moe_latent_size": st.sampled_from([0, 1024]),
        "moe_shared_expert_intermediate_size": st.sampled_from([0, 5376]),
    }
)


def a_config(pattern: str, drafts: str, flags: dict[str, Any]) -> HybridConfig:
    mtp = {"num_nextn_predict_layers": int(bool(drafts)), "mtp_hybrid_override_pattern": drafts}
    return read_config(EVERY_KIND | {"hybrid_override_pattern": pattern} | mtp | flags)


@pytest.mark.parametrize(("raw", "parameters"), PUBLISHED.values(), ids=PUBLISHED)
def test_the_layout_has_as_many_parameters_as_the_published_model(raw: dict[str, Any], parameters: int) -> None:
    assert sum(packed.elements for packed in layout(read_config(raw))) == parameters


@pytest.mark.parametrize(("raw", "billions"), ROUNDED.values(), ids=ROUNDED)
def test_the_layout_has_about_as_many_parameters_as_is_told_of_the_model(raw: dict[str, Any], billions: float) -> None:
    count = sum(packed.elements for packed in layout(read_config(raw)))

    assert count / 1e9 == pytest.approx(billions, rel=0.001)


@given(PATTERNS, DRAFTS, FLAGS)
def test_every_name_is_used_once_and_nothing_is_lost_in_packing(
    pattern: str, drafts: str, flags: dict[str, Any]
) -> None:
    tensors = layout(a_config(pattern, drafts, flags))

    names = [packed.name for packed in tensors]
    read = [source.name for packed in tensors for source in packed.sources]
    assert len(set(names)) == len(names)
    assert len(set(read)) == len(read)
    for packed in tensors:
        assert packed.elements == sum(math.prod(source.shape) for source in packed.sources)


@given(PATTERNS, DRAFTS, FLAGS)
def test_the_module_that_drafts_is_laid_out_as_the_same_blocks_of_the_backbone(
    pattern: str, drafts: str, flags: dict[str, Any]
) -> None:
    tensors = layout(a_config(pattern, drafts, flags))

    blocks = {name: packed for packed in tensors if (name := packed.name).startswith(MTP)}
    around = {f"{MTP}{name}.weight" for name in ("enorm", "hnorm", "eh_proj", "final_norm")}
    twins = layout(a_config(drafts, "", flags)) if drafts else ()
    expected = {
        packed.name.replace("layers.", MTP): (packed.shape, packed.wide)
        for packed in twins
        if packed.name.startswith("layers.")
    }
    assert {name: (packed.shape, packed.wide) for name, packed in blocks.items() if name not in around} == expected
    assert around <= blocks.keys() or not drafts
    assert without_mtp(tensors) == layout(a_config(pattern, "", flags))


def test_what_surrounds_the_drafting_blocks_hangs_on_the_first_and_the_last() -> None:
    read = {packed.name: packed.sources[0].name for packed in layout(read_config(SUPER))}

    assert read["mtp.enorm.weight"] == "mtp.layers.0.enorm.weight"
    assert read["mtp.hnorm.weight"] == "mtp.layers.0.hnorm.weight"
    assert read["mtp.eh_proj.weight"] == "mtp.layers.0.eh_proj.weight"
    assert read["mtp.0.norm.weight"] == "mtp.layers.0.norm.weight"
    assert read["mtp.0.mixer.o_proj.weight"] == "mtp.layers.0.mixer.o_proj.weight"
    assert read["mtp.1.mixer.gate.weight"] == "mtp.layers.1.mixer.gate.weight"
    assert read["mtp.1.mixer.experts.up_proj"] == "mtp.layers.1.mixer.experts.0.up_proj.weight"
    assert read["mtp.final_norm.weight"] == "mtp.layers.1.final_layernorm.weight"


def test_only_weights_of_matrix_products_are_ever_quantised() -> None:
    linear = {name.rsplit(".", 2)[-2] for name, source in sources(layout(read_config(SUPER))).items() if source.linear}

    projections = {f"{name}_proj" for name in ("in", "out", "q", "k", "v", "o", "up", "down", "eh")}
    assert linear == projections | {"fc1_latent_proj", "fc2_latent_proj", "lm_head"}
