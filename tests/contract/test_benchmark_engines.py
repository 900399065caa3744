"""The benchmark's drivers compute the same tokens, and models made for it are what they say."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.engines import huggingface, ours
from benchmarks.engines.child import Subject, measure
from benchmarks.job import Job, Length, requests
from benchmarks.models import TINY, WIDE, without, write_random
from nemotron_api.hybrid_config import read_config
from nemotron_runtime import pack

pytestmark = pytest.mark.contract

MIXED = (Length(5, 3), Length(17, 9), Length(2, 6), Length(30, 4), Length(9, 8))

SMALL = {
    **WIDE,
    "vocab_size": 64,
    "hidden_size": 32,
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "n_groups": 2,
    "ssm_state_size": 16,
    "num_attention_heads": 4,
    "head_dim": 8,
    "n_routed_experts": 8,
    "moe_intermediate_size": 24,
    "moe_shared_expert_intermediate_size": 40,
}


def a_job(checkpoint: Path = TINY, lengths: tuple[Length, ...] = MIXED, repeats: int = 1) -> Job:
    vocab_size = read_config(checkpoint).vocab_size
    return Job(str(checkpoint), "FP32", 1, 2, lengths, repeats, vocab_size)


@pytest.fixture(scope="module", params=[ours, huggingface], ids=["ours", "transformers"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    built: Subject = request.param.build(a_job())
    yield built
    built.close()


def test_a_driver_returns_as_many_tokens_as_asked_for_with_rising_times(subject: Subject) -> None:
    answers = subject.run(requests(MIXED, 272, seed=0))
    assert [len(answer.tokens) for answer in answers] == [length.output for length in MIXED]
    assert all(answer.times == sorted(answer.times) and len(answer.times) == len(answer.tokens) for answer in answers)


def test_a_measurement_has_every_figure_of_equal_lengths(subject: Subject) -> None:
    measured = measure(subject, a_job(lengths=(Length(8, 12),) * 2, repeats=2))
    assert len(measured.timings) == 2
    assert all(None not in (timing.decode, timing.prefill) for timing in measured.timings)
    assert measured.peak_bytes > 1 << 20


def test_both_drivers_compute_the_same_greedy_tokens_padded_or_not() -> None:
    one, other = ours.build(a_job()), huggingface.build(a_job())
    asked = requests(MIXED, 272, seed=0)
    try:
        assert [answer.tokens for answer in one.run(asked)] == [answer.tokens for answer in other.run(asked)]
    finally:
        one.close()


def test_a_model_without_its_attention_is_the_rest_of_it(tmp_path: Path) -> None:
    packed = {}
    for kinds in ("", "*"):
        checkpoint = without(TINY, kinds, tmp_path / f"checkpoint{kinds}")
        packed[kinds] = pack(checkpoint, tmp_path / f"engine{kinds}", dtype="FP32", max_batch=1, max_sequence_tokens=16)
    config = read_config(TINY)
    heads = 2 * config.attention_heads + 2 * config.kv_heads
    attention = config.hidden_size * (heads * config.head_dim + 1)
    assert read_config(checkpoint).pattern == "MEMEME"
    assert packed[""].parameters - packed["*"].parameters == attention
    assert packed["*"].page_bytes == 0


def test_a_random_checkpoint_is_one_that_both_engines_run_alike(tmp_path: Path) -> None:
    job = a_job(write_random(tmp_path / "checkpoint", SMALL))
    one, other = ours.build(job), huggingface.build(job)
    asked = requests(MIXED, 64, seed=0)
    try:
        assert [answer.tokens for answer in one.run(asked)] == [answer.tokens for answer in other.run(asked)]
    finally:
        one.close()
