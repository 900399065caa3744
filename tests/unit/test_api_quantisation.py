"""What Model Optimizer writes about a checkpoint's weights is read in both of its files and all of its spellings."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api.errors import InvalidModel
from nemotron_api.quantisation import Quantisation, read_quantisation

pytestmark = pytest.mark.unit


def modelopt(**said: Any) -> dict[str, Any]:
    return {"quantization_config": {"quant_method": "modelopt"} | said}


def test_a_checkpoint_that_says_nothing_is_not_quantised() -> None:
    assert read_quantisation({}) == Quantisation()
    assert Quantisation().format_of("lm_head") is None


@pytest.mark.parametrize(
    ("algorithm", "stored_as"),
    [("FP8", "FP8"), ("fp8", "FP8"), ("NVFP4", "NVFP4"), ("W4A16_NVFP4", "NVFP4")],
)
def test_one_format_is_everywhere_but_where_it_is_excluded(algorithm: str, stored_as: str) -> None:
    in_config = read_quantisation(modelopt(quant_algo=algorithm, ignore=["lm_head"]))
    beside = read_quantisation({}, {"quantization": {"quant_algo": algorithm, "exclude_modules": ["lm_head"]}})

    assert in_config == beside
    assert in_config.format_of("lm_head") is None
    assert in_config.format_of("layers.0.mixer.in_proj") == stored_as


def test_config_json_is_believed_before_the_file_beside_it() -> None:
    said = read_quantisation(modelopt(quant_algo="FP8"), {"quantization": {"quant_algo": "NVFP4"}})

    assert said.everywhere == "FP8"


@pytest.mark.parametrize(
    "pattern",
    [
        "backbone.layers.4.mixer.in_proj",
        "model.layers.4.mixer.in_proj",
        "backbone.layers.4.mixer",
        "backbone.layers.4*",
        "backbone.layers.4.*",
        "*in_proj",
        "in_proj",
        "layers.4.mixer.in_proj.\0backbone.pt_name_sentinel",
    ],
)
def test_an_exclusion_covers_its_module_in_any_spelling_and_no_other(pattern: str) -> None:
    said = read_quantisation(modelopt(quant_algo="FP8", ignore=[pattern]))

    assert said.format_of("layers.4.mixer.in_proj") is None
    assert said.format_of("layers.5.mixer.out_proj") == "FP8"
    assert said.format_of("layers.14.mixer.out_proj") == "FP8"


def test_a_name_is_not_taken_for_the_beginning_of_another() -> None:
    said = read_quantisation(modelopt(quant_algo="FP8", ignore=["backbone.layers.1", "proj"]))

    assert said.format_of("layers.1.mixer.in_proj") is None
    assert said.format_of("layers.10.mixer.in_proj") == "FP8"


def test_a_mix_names_each_layers_format_or_that_of_a_module_above() -> None:
    said = read_quantisation(
        modelopt(
            quant_algo="MIXED_PRECISION",
            quantized_layers={
                "backbone.layers.0.mixer.in_proj": {"quant_algo": "FP8"},
                "backbone.layers.1.mixer.experts.\0backbone.pt_name_sentinel": {
                    "quant_algo": "NVFP4",
                    "group_size": 16,
                },
            },
        )
    )

    assert said.format_of("layers.0.mixer.in_proj") == "FP8"
    assert said.format_of("layers.1.mixer.experts.7.up_proj") == "NVFP4"
    assert said.format_of("layers.0.mixer.out_proj") is None
    assert said.format_of("layers.1.mixer.shared_experts.up_proj") is None


@pytest.mark.parametrize(
    ("config", "beside", "says"),
    [
        pytest.param({"quantization_config": {"quant_method": "awq"}}, None, "quant_method 'awq'", id="another-tool"),
        pytest.param(modelopt(quant_algo="INT4_AWQ"), None, "'INT4_AWQ': known are", id="another-format"),
        pytest.param(modelopt(), None, "quant_algo None", id="no-format"),
        pytest.param(modelopt(quant_algo="FP8", ignore="lm_head"), None, "as 'lm_head', not as names", id="no-list"),
        pytest.param(modelopt(quant_algo="MIXED_PRECISION"), None, "has no quantized_layers", id="mix-of-nothing"),
        pytest.param(
            modelopt(quant_algo="MIXED_PRECISION", quantized_layers={"a": "FP8"}), None, "no quantized_layers", id="mix"
        ),
        pytest.param({}, {"quant_algo": "FP8"}, "hf_quant_config.json has no object named", id="no-object"),
        pytest.param({}, {"quantization": {"quant_algo": "W8A8"}}, "hf_quant_config.json says", id="beside"),
    ],
)
def test_what_is_not_served_is_refused_with_a_sentence(
    config: dict[str, Any], beside: dict[str, Any] | None, says: str
) -> None:
    with pytest.raises(InvalidModel, match=says):
        read_quantisation(config, beside)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
KEYS = st.sampled_from(["quant_algo", "ignore", "exclude_modules", "quantized_layers"])
SAID = st.dictionaries(KEYS, JSON | st.sampled_from(["FP8", "MIXED_PRECISION"]))


@given(config=JSON | SAID.map(lambda said: said | {"quant_method": "modelopt"}), beside=JSON | SAID)
def test_whatever_the_files_hold_the_answer_is_a_value_or_a_sentence(config: Any, beside: Any) -> None:
    try:
        answer: object = read_quantisation({"quantization_config": config}, {"quantization": beside})
    except InvalidModel as error:
        answer = str(error)

    assert answer
