"""The engine under load on a tiny random model: streams, their ends, what is shared and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nemotron_api.errors import InvalidRequest, Overloaded
from nemotron_runtime import HybridEngine, SamplingParams, open_engine
from nemotron_runtime.config import load_config
from tests.builders.gate import BATCH, LIMIT, Gate, a_packed_engine, is_empty, until
from tests.builders.streams import PATIENCE_SECONDS, generate, start

pytestmark = pytest.mark.unit

LONG = SamplingParams(max_tokens=500, ignore_eos=True)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: Any) -> Path:
    return a_packed_engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture
def engine(directory: Path) -> Iterator[HybridEngine]:
    engine = open_engine(directory, threads=1)
    yield engine
    engine.close()


@pytest.fixture
def gate(directory: Path) -> Gate:
    return Gate(directory)


@pytest.fixture
def gated(gate: Gate) -> Iterator[HybridEngine]:
    """An engine that computes nothing until the gate opens; two may wait."""
    engine = gate.an_engine(max_waiting=2)
    yield engine
    gate.open.set()
    engine.close()


def test_tokens_come_one_by_one_and_the_last_one_says_why(engine: HybridEngine) -> None:
    stream = start(engine, [5, 6, 7], SamplingParams(max_tokens=4, ignore_eos=True))

    assert stream.finish().finish_reason == "length"
    assert [event.finish_reason for event in stream.events] == [None, None, None, "length"]
    assert {event.request_id for event in stream.events} == {stream.id}
    assert is_empty(engine)


def test_a_stop_token_ends_the_stream_and_is_its_last_token(engine: HybridEngine) -> None:
    sampling = SamplingParams(max_tokens=20, ignore_eos=True)
    (tokens,) = generate(engine, [[5, 6, 7]], sampling)

    stream = start(engine, [5, 6, 7], SamplingParams(max_tokens=20, ignore_eos=True, stop_ids=frozenset({tokens[3]})))

    assert stream.tokens() == tokens[: tokens.index(tokens[3]) + 1]
    assert stream.finish().finish_reason == "stop"


def test_the_models_own_end_token_ends_the_stream_unless_ignored(directory: Path, engine: HybridEngine) -> None:
    # given sampling so hot that the end token, one of 61, comes soon
    sampling = {"max_tokens": 400, "temperature": 50.0, "seed": 3}

    ended = start(engine, [5], SamplingParams(**sampling))  # type: ignore[arg-type]
    ignored = start(engine, [5], SamplingParams(**sampling, ignore_eos=True))  # type: ignore[arg-type]

    assert ended.tokens()[-1] in load_config(directory).eos_token_ids
    assert ended.finish().finish_reason == "stop"
    assert ignored.finish().finish_reason == "length"
    assert ignored.tokens()[: len(ended.tokens())] == ended.tokens()


def test_several_streams_advance_in_the_same_step(gated: HybridEngine, gate: Gate) -> None:
    streams = [start(gated, [5], LONG)]
    assert gate.entered.wait(PATIENCE_SECONDS)
    streams += [start(gated, prompt, LONG) for prompt in ([6, 7], [8, 9, 10])]

    gate.open.set()

    assert [len(stream.tokens()) for stream in streams] == [500, 500, 500]
    stats = gated.stats()
    assert (stats.prompt_tokens, stats.generated_tokens) == (6, 1500)
    assert stats.steps == 501


def test_sampled_tokens_depend_on_the_seed_and_not_on_the_company(engine: HybridEngine) -> None:
    def sampling(seed: int) -> SamplingParams:
        return SamplingParams(max_tokens=30, temperature=1.0, top_k=40, top_p=0.95, seed=seed, ignore_eos=True)

    alone = [generate(engine, [[9, 8, 7]], sampling(seed))[0] for seed in range(4)]
    streams = [start(engine, [9, 8, 7], sampling(seed)) for seed in range(4)]

    assert [stream.tokens() for stream in streams] == alone
    assert len({tuple(tokens) for tokens in alone}) == 4


def test_requests_beyond_the_slots_wait_and_are_served(engine: HybridEngine) -> None:
    answers = generate(engine, [[5, 6]] * (3 * BATCH), SamplingParams(max_tokens=5, ignore_eos=True))

    assert all(answer == answers[0] for answer in answers)
    assert is_empty(engine)


def test_a_full_queue_refuses_with_overloaded(gated: HybridEngine, gate: Gate) -> None:
    start(gated, [5], LONG)
    assert gate.entered.wait(PATIENCE_SECONDS)
    start(gated, [6], LONG)
    start(gated, [7], LONG)

    with pytest.raises(Overloaded, match="2 requests wait already, at most 2 may"):
        start(gated, [8], LONG)
    assert gated.stats().waiting == 2
    assert gated.stats().prefill_backlog_tokens == 3


def test_an_invalid_request_is_refused_at_once(engine: HybridEngine) -> None:
    with pytest.raises(InvalidRequest, match=f"prompt of {LIMIT} tokens .* at most {LIMIT} tokens"):
        start(engine, [5] * LIMIT, LONG)


def test_the_heart_beats_when_idle(engine: HybridEngine) -> None:
    first = engine.heartbeat()

    # it falls only when the loop turns
    until(lambda: engine.heartbeat() < first)
