"""The least a step reads and computes follows from the model's shape."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.job import Length
from benchmarks.models import TINY, WIDE, without
from benchmarks.runtime import mean_context
from benchmarks.work import decode_step, distinct_experts, prompt_flops
from nemotron_api.hybrid_config import HybridConfig, read_config
from nemotron_runtime import pack

pytestmark = pytest.mark.unit

CONFIGS = [pytest.param(read_config(TINY), id="tiny"), pytest.param(read_config(WIDE), id="wide")]
MANY = 10_000
"""Sequences enough that every expert is hit."""


@pytest.mark.parametrize("config", CONFIGS)
@given(tokens=st.integers(1, 500))
def test_experts_that_are_hit_are_at_least_those_of_one_token_and_at_most_all(
    config: HybridConfig, tokens: int
) -> None:
    assert config.experts_per_token - 1e-9 <= distinct_experts(config, tokens) <= config.experts
    assert distinct_experts(config, tokens) <= distinct_experts(config, tokens + 1)


@pytest.mark.parametrize("config", CONFIGS)
@given(sequences=st.integers(1, 200), context=st.integers(0, 10_000))
def test_a_longer_context_costs_its_keys_and_values_and_nothing_else(
    config: HybridConfig, sequences: int, context: int
) -> None:
    near, far = (decode_step(config, sequences, length, 4) for length in (context, context + 1))
    assert far.bytes - near.bytes == pytest.approx(sequences * config.kv_bytes_per_token(4))
    attention = 4 * config.attention_heads * config.head_dim * config.blocks("*")
    assert far.flops - near.flops == pytest.approx(sequences * attention)


@pytest.mark.parametrize("config", CONFIGS)
def test_operations_grow_with_the_sequences_and_weights_are_read_once(config: HybridConfig) -> None:
    one, many = decode_step(config, 1, 64, 4), decode_step(config, 32, 64, 4)
    assert many.flops == pytest.approx(32 * one.flops)
    assert many.bytes < 32 * one.bytes


def test_a_step_of_very_many_reads_every_weight_that_was_packed(tmp_path: Path) -> None:
    checkpoint = without(TINY, "", tmp_path / "checkpoint")
    report = pack(checkpoint, tmp_path / "engine", dtype="FP32", max_batch=1, max_sequence_tokens=16)
    config = read_config(TINY)
    table = config.vocab_size * config.hidden_size * 4
    rows, states = MANY * config.hidden_size * 4, 2 * MANY * config.slot_bytes(4)
    assert decode_step(config, MANY, 0, 4).bytes - rows - states == pytest.approx(report.weight_bytes - table)


def test_a_token_of_the_wide_model_is_multiplied_by_the_weights_that_its_widths_say() -> None:
    step = decode_step(read_config(WIDE), 1, 0, 2)
    mamba = 3 * (2688 * (2 * 4096 + 2048 + 64) + 4096 * 2688)
    attention = 2688 * (32 + 2 + 2) * 128 + 32 * 128 * 2688
    experts = 3 * 2 * 2688 * (6 * 1856 + 3712)
    assert step.flops / 2 == pytest.approx(mamba + attention + experts + 8192 * 2688, rel=0.02)


@pytest.mark.parametrize("config", CONFIGS)
@given(prompt=st.integers(1, 300), output=st.integers(1, 9))
def test_a_prompt_costs_what_its_tokens_cost_one_by_one_but_for_the_head(
    config: HybridConfig, prompt: int, output: int
) -> None:
    steps = sum(decode_step(config, 1, position + 1, 4).flops for position in range(prompt))
    heads = (prompt - 1) * 2 * config.vocab_size * config.hidden_size
    assert prompt_flops(config, [Length(prompt, output)]) == pytest.approx(steps - heads)


@given(st.lists(st.builds(Length, st.integers(1, 50), st.integers(1, 50)), min_size=1))
def test_the_mean_context_is_that_of_every_decoded_token(lengths: list[Length]) -> None:
    contexts = [each.prompt + step for each in lengths for step in range(1, each.output + 1)]
    assert math.isclose(mean_context(lengths), sum(contexts) / len(contexts))
