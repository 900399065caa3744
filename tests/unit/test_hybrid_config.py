"""A config.json of the family is read in any spelling; anything else is refused with a sentence that says why."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api.catalogue import NANO, NANO_4B, SUPER
from nemotron_api.errors import InvalidModel
from nemotron_api.hybrid_config import ATTENTION, MAMBA, MLP, MOE, read_config, read_token_ids

pytestmark = pytest.mark.unit

LEGACY_NAMES = {MAMBA: "mamba", ATTENTION: "attention", MOE: "moe", MLP: "mlp"}
NAMES = LEGACY_NAMES | {MAMBA: "linear_attention", ATTENTION: "full_attention"}

EVERY_KIND = NANO | {"intermediate_size": 64}
PATTERNS = st.text(alphabet="ME*-", min_size=1, max_size=120)


def without(raw: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in keys}


def spelled(pattern: str, **changes: Any) -> dict[str, Any]:
    """A config whose layers are named by `changes` alone."""
    return without(EVERY_KIND, "hybrid_override_pattern", "num_hidden_layers") | changes


@given(pattern=PATTERNS)
def test_all_spellings_of_the_layers_mean_the_same(pattern: str) -> None:
    names = [NAMES[letter] for letter in pattern]
    legacy = [LEGACY_NAMES[letter] for letter in pattern]

    read = [
        read_config(spelled(pattern, hybrid_override_pattern=pattern)),
        read_config(spelled(pattern, layers_block_type=names)),
        read_config(spelled(pattern, layers_block_type=legacy)),
        read_config(spelled(pattern, layer_types=names)),
        read_config(spelled(pattern, hybrid_override_pattern=pattern, layers_block_type=legacy)),
        read_config(spelled(pattern, layers_block_type=names, num_hidden_layers=len(pattern))),
    ]

    assert {config.pattern for config in read} == {pattern}
    assert all(config == read[0] for config in read)


@given(pattern=PATTERNS, other=PATTERNS)
def test_spellings_that_disagree_are_refused(pattern: str, other: str) -> None:
    raw = spelled(pattern, hybrid_override_pattern=pattern, layers_block_type=[NAMES[letter] for letter in other])

    if pattern == other:
        assert read_config(raw).pattern == pattern
    else:
        with pytest.raises(InvalidModel, match="contradicts itself about the layers"):
            read_config(raw)


@pytest.mark.parametrize(
    "limit",
    [[0, math.inf], [0.0, 1e308], [0.0, {"__float__": "Infinity"}], (0.0, math.inf), ["0", "inf"], None],
    ids=repr,
)
def test_an_infinite_time_step_limit_is_read_in_any_spelling(limit: object) -> None:
    assert read_config(NANO | {"time_step_limit": limit}) == read_config(without(NANO, "time_step_limit"))


@pytest.mark.parametrize(
    "limit",
    [[0.0, 0.1], [0.001, math.inf], [0.0, -math.inf], [0.0, math.nan], [0.0, {}], [0.0, "much"], [0.0], 0, "none"],
    ids=repr,
)
def test_any_other_time_step_limit_is_refused(limit: object) -> None:
    with pytest.raises(InvalidModel, match="clamps dt"):
        read_config(NANO | {"time_step_limit": limit})


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        pytest.param({}, "", id="none"),
        pytest.param({"num_nextn_predict_layers": 1}, "*E", id="the-usual-one"),
        pytest.param({"num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": "*-"}, "*-", id="letters"),
        pytest.param({"num_nextn_predict_layers": 1, "mtp_layers_block_type": ["attention", "mlp"]}, "*-", id="names"),
        pytest.param({"num_nextn_predict_layers": 0, "mtp_hybrid_override_pattern": "*E"}, "", id="switched-off"),
    ],
)
def test_the_multi_token_prediction_module_is_read(changes: dict[str, Any], pattern: str) -> None:
    assert read_config(EVERY_KIND | changes).mtp_pattern == pattern


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"model_type": "llama"}, "model_type 'llama'; this project serves the nemotron_h family", id="llama"
        ),
        pytest.param({"model_type": None}, "model_type None", id="no-model-type"),
        pytest.param(
            {"num_hidden_layers": 51}, "num_hidden_layers is 51, but hybrid_override_pattern names 52", id="count"
        ),
        pytest.param({"hybrid_override_pattern": "MX"}, "must be letters of M\\*E-", id="unknown-letter"),
        pytest.param({"hybrid_override_pattern": ""}, "names no layers", id="no-layers"),
        pytest.param({"layers_block_type": ["mamba", "rwkv"]}, "names out of mamba", id="unknown-name"),
        pytest.param({"layers_block_type": [{}]}, "must be letters", id="nameless"),
        pytest.param({"mamba_num_heads": 63}, "mamba_num_heads must be a multiple of n_groups", id="groups"),
        pytest.param({"num_attention_heads": 31}, "multiple of num_key_value_heads", id="kv-heads"),
        pytest.param({"num_experts_per_tok": 129}, "at most n_routed_experts", id="too-many-experts"),
        pytest.param({"n_group": 3}, "multiple of n_group", id="expert-groups"),
        pytest.param({"n_group": 4, "topk_group": 5}, "topk_group must be at most n_group", id="top-groups"),
        pytest.param({"n_group": 64, "topk_group": 1}, "must hold at least num_experts_per_tok", id="narrow-groups"),
        pytest.param({"hidden_size": None}, "has no hidden_size", id="missing-size"),
        pytest.param({"hidden_size": "2688"}, "hidden_size must be a positive integer, but is '2688'", id="text"),
        pytest.param({"hidden_size": -1}, "hidden_size must be a positive integer", id="negative"),
        pytest.param({"hidden_size": True}, "hidden_size must be a positive integer", id="flag-for-size"),
        pytest.param({"ssm_state_size": 0}, "ssm_state_size must be a positive integer", id="needed-but-0"),
        pytest.param({"use_conv_bias": 1}, "use_conv_bias must be true or false", id="number-for-flag"),
        pytest.param({"routed_scaling_factor": [1]}, "routed_scaling_factor must be a positive number", id="list"),
        pytest.param(
            {"mlp_hidden_act": "silu"}, "mlp_hidden_act is 'silu'; the nemotron_h family has 'relu2'", id="silu"
        ),
        pytest.param({"sliding_window": 4096}, "sliding_window is 4096", id="sliding-window"),
        pytest.param(
            {"num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": "*M"}, "drafts with \\*, E and -", id="mtp"
        ),
        pytest.param(
            {"num_nextn_predict_layers": 1, "mtp_hybrid_override_pattern": "*-"}, "no intermediate_size", id="mtp-size"
        ),
        pytest.param({"eos_token_id": "2"}, "eos_token_id must be a token id", id="eos-as-text"),
    ],
)
def test_a_wrong_config_is_refused_with_a_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        read_config(NANO | changes)


def test_numbers_of_blocks_that_are_not_there_may_be_missing() -> None:
    needed = ("model_type", "vocab_size", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim")

    config = read_config({key: NANO[key] for key in needed} | {"hybrid_override_pattern": "**"})

    assert config.slot_bytes(2) == 0
    assert config.kv_bytes_per_token(2) == 2 * 2 * 2 * 128 * 2


@pytest.mark.parametrize(
    ("raw", "slot_mib", "kv_bytes"),
    [
        pytest.param(NANO, 46.8, 6144, id="nano"),
        pytest.param(SUPER, 162.3, 8192, id="super"),
        pytest.param(NANO_4B, 79.9, 16384, id="nano-4b"),
    ],
)
def test_a_sequences_memory_is_what_the_models_are_known_for(
    raw: dict[str, Any], slot_mib: float, kv_bytes: int
) -> None:
    config = read_config(raw)

    assert config.slot_bytes(2) / 2**20 == pytest.approx(slot_mib, abs=0.05)
    assert config.kv_bytes_per_token(2) == kv_bytes


def test_the_inner_width_ignores_expand() -> None:
    config = read_config(NANO | {"expand": 2})

    assert (config.d_inner, config.conv_dim, config.projection_dim) == (4096, 6144, 10304)


@pytest.mark.parametrize(
    ("old", "new"),
    [("mamba_n_groups", "n_groups"), ("mamba_d_conv", "conv_kernel"), ("attention_head_dim", "head_dim")],
)
def test_older_names_of_a_key_are_read(old: str, new: str) -> None:
    assert read_config(without(NANO, new) | {old: NANO[new]}) == read_config(NANO)


def test_a_model_without_shared_experts_says_so_by_their_number() -> None:
    assert read_config(NANO | {"n_shared_experts": 0}).shared_expert_size == 0


@pytest.mark.parametrize(("value", "ids"), [(2, (2,)), ([2, 11], (2, 11)), (None, ()), ([], ())])
def test_token_ids_are_read_as_number_or_list(value: object, ids: tuple[int, ...]) -> None:
    assert read_token_ids({"eos_token_id": value}, "eos_token_id") == ids


def test_the_file_is_found_in_the_checkpoints_folder(tmp_path: Path) -> None:
    # json writes infinity as Python does: Infinity
    (tmp_path / "config.json").write_text(json.dumps(NANO))

    assert read_config(tmp_path) == read_config(tmp_path / "config.json") == read_config(NANO)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "config.json is missing"), ("{", "not JSON"), ("[]", "must hold a JSON object"), ("\x00\xff", "not JSON")],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content.encode("latin-1"))

    with pytest.raises(InvalidModel, match=message):
        read_config(tmp_path)


@given(
    raw=st.dictionaries(
        st.sampled_from([*NANO, "layers_block_type", "eos_token_id", "n_group", "num_hidden_layers"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        ),
    )
)
def test_whatever_the_file_holds_the_answer_is_a_config_or_a_sentence(raw: dict[str, Any]) -> None:
    try:
        answer = read_config(NANO | raw).pattern
    except InvalidModel as error:
        answer = str(error)

    assert answer
