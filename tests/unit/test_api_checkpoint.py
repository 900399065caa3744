"""A checkpoint's headers fit its config.json, or the tensor that does not is named."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api.catalogue import LIGHTNING, SUPER
from nemotron_api.checkpoint import Contents, Stored, verify
from nemotron_api.errors import WeightsInvalid
from nemotron_api.hybrid_config import read_config
from nemotron_api.layout import Source, layout, sources
from nemotron_api.quantisation import Quantisation, read_quantisation

pytestmark = pytest.mark.unit

CONFIG = read_config(SUPER | {"hybrid_override_pattern": "ME*", "n_routed_experts": 2, "num_experts_per_tok": 1})
WANTED = sources(layout(CONFIG))
LINEAR = sorted(name.removesuffix(".weight") for name, source in WANTED.items() if source.linear)
FILE = "model.safetensors"

Headers = dict[str, Stored]
PLAIN = Quantisation()
IN_PROJ = "layers.0.mixer.in_proj"


def stored(name: str, dtype: str, *shape: int) -> Headers:
    return {name: Stored(FILE, name, dtype, shape)}


def pieces(source: Source, stored_as: str | None) -> Headers:
    """What Model Optimizer writes for a weight."""
    module = source.name.removesuffix(".weight")
    if stored_as is None:
        return stored(source.name, "BF16", *source.shape)
    outputs, inputs = source.shape
    scale = stored(f"{module}.input_scale", "F32")
    if stored_as == "FP8":
        return scale | stored(source.name, "F8_E4M3", *source.shape) | stored(f"{module}.weight_scale", "F32")
    return (
        scale
        | stored(source.name, "U8", outputs, inputs // 2)
        | stored(f"{module}.weight_scale", "F8_E4M3", outputs, inputs // 16)
        | stored(f"{module}.weight_scale_2", "F32", 1)
    )


def headers(quantisation: Quantisation = PLAIN, *, mtp: bool = True) -> Headers:
    found: Headers = {}
    for name, source in WANTED.items():
        if mtp or not name.startswith("mtp."):
            module = name.removesuffix(".weight")
            found |= pieces(source, quantisation.format_of(module) if source.linear else None)
    return found


def verified(found: Headers, quantisation: Quantisation = PLAIN) -> Contents:
    return verify(CONFIG, quantisation, found.values())


ANY_MIX = st.dictionaries(st.sampled_from(LINEAR), st.sampled_from(["FP8", "NVFP4"])).map(
    lambda layers: Quantisation(layers=layers)  # type: ignore[arg-type]
)


@given(ANY_MIX)
def test_any_mix_of_formats_is_read_as_it_is_stored(quantisation: Quantisation) -> None:
    contents = verified(headers(quantisation), quantisation)

    assert contents.weights.keys() == WANTED.keys()
    formats = {name.removesuffix(".weight"): weight.format for name, weight in contents.weights.items()}
    assert {module: found for module, found in formats.items() if found} == quantisation.layers
    assert contents.parameters == sum(packed.elements for packed in layout(CONFIG))


@given(quantisation=ANY_MIX, data=st.data())
def test_whatever_needed_tensor_is_missing_is_named(quantisation: Quantisation, data: st.DataObject) -> None:
    found = headers(quantisation)
    missing = data.draw(st.sampled_from([name for name in found if not name.endswith("input_scale")]))
    del found[missing]

    with pytest.raises(WeightsInvalid, match=rf"tensor {missing} is missing"):
        verified(found, quantisation)


@given(quantisation=ANY_MIX, data=st.data())
def test_whatever_tensor_has_another_shape_is_named(quantisation: Quantisation, data: st.DataObject) -> None:
    found = headers(quantisation)
    odd = data.draw(st.sampled_from([name for name in found if not name.endswith("input_scale")]))
    found[odd] = replace(found[odd], shape=(*found[odd].shape, 3))

    with pytest.raises(WeightsInvalid, match=rf"tensor {odd} in {FILE} has shape"):
        verified(found, quantisation)


@given(quantisation=ANY_MIX, other=ANY_MIX)
def test_weights_stored_otherwise_than_their_config_says_are_refused(
    quantisation: Quantisation, other: Quantisation
) -> None:
    if quantisation.layers == other.layers:
        assert verified(headers(quantisation), other).weights
    else:
        with pytest.raises(WeightsInvalid, match="quantisation config"):
            verified(headers(quantisation), other)


def test_without_its_weights_the_module_that_drafts_is_left_out() -> None:
    assert verified(headers()).mtp

    contents = verified(headers(mtp=False))

    assert not contents.mtp
    assert not [name for name in contents.weights if name.startswith("mtp.")]


def test_drafting_weights_that_config_json_does_not_describe_are_left_out() -> None:
    found = headers() | stored("mtp.layers.2.enorm.weight", "BF16", 5)

    assert "mtp.layers.2.enorm.weight" not in verified(found).weights


@pytest.mark.parametrize(
    "name",
    ["k_proj.k_scale", "v_proj.v_scale", "k_scale", "v_scale"],
)
def test_scales_of_the_cache_are_accepted_and_left(name: str) -> None:
    assert verified(headers() | stored(f"backbone.layers.2.mixer.{name}", "F32"))


def rename(name: str, other: str) -> Callable[[Headers], Headers]:
    return lambda found: {key: replace(each, key=other) if key == name else each for key, each in found.items()}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(
            lambda found: found | stored(f"backbone.{IN_PROJ}.weight", "BF16", 1),
            r"in_proj\.weight is in model\.safetensors as layers\..* as backbone\.layers.*: keep one",
            id="with-and-without-prefix",
        ),
        pytest.param(
            lambda found: found | stored("layers.0.mixer.q_proj.weight", "BF16", 1), "is nothing that", id="unexplained"
        ),
        pytest.param(rename("lm_head.weight", "head.weight"), "head.weight in .* is nothing that", id="another-name"),
        pytest.param(
            lambda found: found | stored("embeddings.weight_scale", "F32"), "embeddings.weight_scale .* nothing", id="e"
        ),
        pytest.param(
            lambda found: found | stored(f"{IN_PROJ}.weight_scale", "F32"), "scales a weight that is BF16", id="stray"
        ),
        pytest.param(
            lambda found: found | stored(f"{IN_PROJ}.pre_quant_scale", "F32", 4096), "is nothing that", id="smoothing"
        ),
        pytest.param(
            lambda found: found | {"lm_head.weight": replace(found["lm_head.weight"], dtype="I8")},
            "lm_head.weight in model.safetensors is I8: weights may be",
            id="integers",
        ),
        pytest.param(
            lambda found: found | {"norm_f.weight": replace(found["norm_f.weight"], dtype="F8_E4M3")},
            "norm_f.weight .* is F8_E4M3, but .* leaves it in floating point",
            id="a-norm-quantised",
        ),
    ],
)
def test_what_does_not_fit_is_named(damage: Callable[[Headers], Headers], says: str) -> None:
    with pytest.raises(WeightsInvalid, match=says):
        verified(damage(headers()))


def test_a_scale_of_another_type_is_named() -> None:
    quantisation = Quantisation(layers={"lm_head": "FP8"})
    found = headers(quantisation) | stored("lm_head.weight_scale", "BF16")

    with pytest.raises(WeightsInvalid, match=r"lm_head.weight_scale in .* is BF16, not F32"):
        verified(found, quantisation)


def test_nvfp4_needs_whole_blocks() -> None:
    config = read_config(
        SUPER | {"hybrid_override_pattern": "-", "intermediate_size": 24} | {"mtp_layers_block_type": 0}
    )
    found = {name: stored(name, "BF16", *source.shape)[name] for name, source in sources(layout(config)).items()}
    down = "layers.0.mixer.down_proj"
    found[f"{down}.weight"] = replace(found[f"{down}.weight"], dtype="U8", shape=(4096, 12))

    with pytest.raises(WeightsInvalid, match="has 24 inputs: NVFP4 stores blocks of 16"):
        verify(config, Quantisation(layers={down: "NVFP4"}), found.values())


def test_lightning_in_nvfp4_is_read_as_it_is_published() -> None:
    """Routed and shared experts and the head in W4A16, Mamba projections in FP8, attention and drafts as they were."""
    wanted = sources(layout(read_config(LIGHTNING)))
    said: dict[str, Any] = {"quant_algo": "MIXED_PRECISION", "quant_method": "modelopt"}
    said["ignore"] = ["backbone.embeddings", "backbone.layers.0.mixer.conv1d", "backbone.layers.1.mixer.gate", "mtp*"]
    modules = [name.removesuffix(".weight") for name, source in wanted.items() if source.linear]
    formats = {"experts.": "W4A16_NVFP4", "lm_head": "W4A16_NVFP4", "in_proj": "FP8", "out_proj": "FP8"}
    said["quantized_layers"] = {
        name if name == "lm_head" else f"backbone.{name}": {"quant_algo": algorithm}
        for name in modules
        for part, algorithm in formats.items()
        if part in name and not name.startswith("mtp.")
    }
    quantisation = read_quantisation({"quantization_config": said})
    headers = [
        stored
        for name, source in wanted.items()
        for stored in pieces(
            source, quantisation.format_of(name.removesuffix(".weight")) if source.linear else None
        ).values()
    ]

    contents = verify(read_config(LIGHTNING), quantisation, headers)

    found = [weight.format for weight in contents.weights.values()]
    assert (found.count("NVFP4"), found.count("FP8")) == (5935, 46)
    assert contents.mtp
    assert contents.parameters == 32_913_266_240
