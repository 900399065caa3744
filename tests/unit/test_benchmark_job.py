"""What an engine is asked, and what its tokens' times come to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.job import Answer, Job, Length, Measured, Request, Timing, prompt_rate, requests, summarise
from benchmarks.processes import last_words

pytestmark = pytest.mark.unit

lengths = st.lists(st.builds(Length, st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=8)


def an_answer(first: float, step: float, tokens: int) -> Answer:
    return Answer([7] * tokens, [first + step * index for index in range(tokens)])


@given(lengths, st.integers(10, 300), st.integers(0, 9))
def test_prompts_have_their_lengths_and_no_special_tokens(asked: list[Length], vocab_size: int, seed: int) -> None:
    made = requests(asked, vocab_size, seed)
    assert [(len(request.prompt), request.output) for request in made] == [(each.prompt, each.output) for each in asked]
    assert all(3 <= token < vocab_size for request in made for token in request.prompt)


def test_every_seed_has_prompts_of_its_own() -> None:
    asked = [Length(16, 1)] * 4
    first, second = (requests(asked, 272, seed) for seed in (0, 1))
    assert not {tuple(request.prompt) for request in first} & {tuple(request.prompt) for request in second}


@given(lengths, st.sampled_from(["FP32", "BF16"]))
def test_a_job_survives_its_way_to_the_process(asked: list[Length], dtype: str) -> None:
    job = Job("folder", dtype, 2, 3, tuple(asked), 5, 272)
    assert Job.load(job.dump()) == job


def test_a_measurement_survives_its_way_back() -> None:
    measured = Measured("eager", (Timing(1.5, 0.1, None, 3.0), Timing(2.5, 0.2)), [[1, 2]], 1 << 20)
    assert Measured.load(measured.dump()) == measured


@given(st.integers(1, 20), st.integers(3, 50), st.floats(0.001, 1))
def test_streams_that_step_together_decode_at_their_number_per_step(streams: int, tokens: int, step: float) -> None:
    asked = [Request([3], tokens)] * streams
    timing = summarise(asked, [an_answer(1.0, step, tokens)] * streams)
    assert timing.decode == pytest.approx(streams / step)
    assert timing.first_token == 1.0


def test_decoding_is_counted_only_while_everyone_decodes() -> None:
    # The second starts at 5 and both are in every step until the first ends at 9: 4 steps of both.
    answers = [an_answer(0, 1, 10), an_answer(5, 1, 10)]
    assert summarise([Request([3], 10)] * 2, answers).decode == pytest.approx(2.0)


def test_requests_that_never_decode_together_have_no_decode_rate() -> None:
    answers = [an_answer(0, 1, 3), an_answer(5, 1, 3)]
    assert summarise([Request([3], 3)] * 2, answers).decode is None


def test_only_tokens_that_were_asked_for_count() -> None:
    timing = summarise([Request([3], 2), Request([3], 4)], [an_answer(1, 1, 4), an_answer(1, 1, 4)])
    assert timing.total == pytest.approx((2 + 4) / 4)


def test_an_engine_that_stops_early_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer tokens"):
        summarise([Request([3], 4)], [an_answer(0, 1, 3)])


def test_the_prompt_rate_ends_with_the_last_first_token() -> None:
    assert prompt_rate([Request([3] * 10, 1)] * 2, [an_answer(1, 1, 1), an_answer(4, 1, 1)]) == 5.0


def test_a_median_has_its_spread_and_is_none_where_nothing_was_measured() -> None:
    measured = Measured("", tuple(Timing(total, 1.0) for total in (3.0, 1.0, 2.0)), [], 0)
    assert measured.median("total") == (2.0, (1.0, 3.0))
    assert measured.median("prefill") is None


def test_a_failed_process_is_told_by_its_error_not_by_the_lines_it_came_through() -> None:
    said = "noise\nTraceback (most recent call last):\n  File x\n    f()\n    ~^^\nRuntimeError: no memory\n"
    assert last_words(said) == "Traceback (most recent call last): RuntimeError: no memory"
