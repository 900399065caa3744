"""The engine under real load on a tiny random model: streams, ends, aborts, refusals, failures."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nemotron_api.errors import InvalidRequest, Overloaded, RequestError, ShuttingDown
from nemotron_runtime import HybridEngine, SamplingParams, TokenEvent, open_engine, pack
from nemotron_runtime.config import load_config
from nemotron_runtime.executor import TorchExecutor, open_executor
from nemotron_runtime.request import Lease
from nemotron_runtime.scheduler import Step
from tests.builders.checkpoints import a_checkpoint
from tests.builders.streams import PATIENCE_SECONDS, generate, start

pytestmark = pytest.mark.unit

BATCH, LIMIT = 3, 600
LONG = SamplingParams(max_tokens=500, ignore_eos=True)


class Gate:
    """The real executor behind a gate: a test decides when it computes, and what happens instead."""

    def __init__(self, executor: TorchExecutor) -> None:
        self.executor = executor
        self.open = threading.Event()
        self.entered = threading.Event()
        self.instead: Callable[[Tensor], Tensor] = lambda logits: logits

    def admit(self, lease: Lease) -> None:
        self.executor.admit(lease)

    def run(self, step: Step) -> Tensor:
        self.entered.set()
        assert self.open.wait(PATIENCE_SECONDS)
        return self.instead(self.executor.run(step))

    def close_after(self, logits: Tensor) -> Tensor:
        """One step, then no more until the test opens the gate again."""
        self.open.clear()
        return logits


@pytest.fixture(scope="module")
def directory(tmp_path_factory: Any) -> Path:
    root: Path = tmp_path_factory.mktemp("engine")
    checkpoint = a_checkpoint(root / "checkpoint")
    pack(checkpoint, root / "engine", dtype="FP32", max_batch=BATCH, max_sequence_tokens=LIMIT)
    return root / "engine"


@pytest.fixture
def engine(directory: Path) -> Iterator[HybridEngine]:
    engine = open_engine(directory, threads=1)
    yield engine
    engine.close()


@pytest.fixture
def gate(directory: Path) -> Gate:
    return Gate(open_executor(directory, load_config(directory))[1])


@pytest.fixture
def gated(directory: Path, gate: Gate) -> Iterator[HybridEngine]:
    """An engine that computes nothing until the gate opens."""
    engine = HybridEngine(gate, load_config(directory), vocab_size=61, max_waiting=2)
    yield engine
    gate.open.set()
    engine.close()


def until(holds: Callable[[], bool]) -> None:
    """Wait for something another thread is about to do."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def is_refused(engine: HybridEngine) -> bool:
    """Whether the engine is closed, by trying."""
    try:
        engine.abort(engine.submit([5], LONG, lambda event: None))
    except Overloaded:
        return False
    except ShuttingDown as error:
        return "send the request to another replica" in str(error)
    return False


def is_empty(engine: HybridEngine) -> bool:
    stats = engine.stats()
    return (stats.waiting, stats.running, stats.state_slots_used, stats.kv_pages_used) == (0, 0, 0, 0)


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


def test_aborting_a_running_request_frees_what_it_held(gated: HybridEngine, gate: Gate) -> None:
    # given a stream whose first token is out, and whose second one is being computed
    gate.instead = gate.close_after
    gate.open.set()
    stream = start(gated, [5, 6], LONG)
    stream.next()

    gated.abort(stream.id)
    gate.instead = lambda logits: logits
    gate.open.set()

    last = stream.finish()
    assert (last.finish_reason, last.token) == ("aborted", None)
    assert is_empty(gated)


def test_aborting_a_prompt_half_computed_leaves_no_trace(gated: HybridEngine, gate: Gate, engine: HybridEngine) -> None:
    # given a prompt of three chunks, in its first one
    stream = start(gated, [5] * 590, SamplingParams(max_tokens=1))
    assert gate.entered.wait(PATIENCE_SECONDS)

    gated.abort(stream.id)
    gate.open.set()

    assert stream.finish().finish_reason == "aborted"
    assert is_empty(gated)
    sampling = SamplingParams(max_tokens=8, ignore_eos=True)
    assert generate(gated, [[3] * 20], sampling) == generate(engine, [[3] * 20], sampling)


def test_aborting_a_waiting_request_takes_it_off_the_queue(gated: HybridEngine, gate: Gate) -> None:
    running = start(gated, [5], SamplingParams(max_tokens=3, ignore_eos=True))
    assert gate.entered.wait(PATIENCE_SECONDS)
    waiting = start(gated, [6], LONG)

    gated.abort(waiting.id)
    gated.abort(waiting.id)
    gate.open.set()

    assert waiting.finish().finish_reason == "aborted"
    assert waiting.tokens() == []
    assert running.finish().finish_reason == "length"


def test_aborting_what_is_unknown_or_done_changes_nothing(engine: HybridEngine) -> None:
    stream = start(engine, [5], SamplingParams(max_tokens=2, ignore_eos=True))
    stream.finish()

    engine.abort(stream.id)
    engine.abort(12345)

    assert len(generate(engine, [[5]], SamplingParams(max_tokens=2, ignore_eos=True))[0]) == 2


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


def test_closing_aborts_what_is_left_and_refuses_the_rest(gated: HybridEngine, gate: Gate) -> None:
    # given one that runs and one that waits
    running = start(gated, [5], LONG)
    assert gate.entered.wait(PATIENCE_SECONDS)
    waiting = start(gated, [6], LONG)

    # when the engine is closed, which takes until its step is done
    closing = threading.Thread(target=gated.close)
    closing.start()
    until(lambda: is_refused(gated))
    gate.open.set()
    closing.join(PATIENCE_SECONDS)

    # then both end, and closing again is no error
    assert running.finish().finish_reason == waiting.finish().finish_reason == "aborted"
    assert is_empty(gated)
    gated.close()


def test_a_failing_step_is_told_to_everyone_and_ends_the_engine(
    gated: HybridEngine, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    # given one that runs and one that waits
    def fail(logits: Tensor) -> Tensor:
        raise MemoryError("no memory for a test")

    gate.instead = fail
    running = start(gated, [5], LONG)
    assert gate.entered.wait(PATIENCE_SECONDS)
    waiting = start(gated, [6], LONG)

    # when the step fails
    with caplog.at_level(logging.CRITICAL):
        gate.open.set()
        last = [running.finish(), waiting.finish()]

    # then both hear why, no more is taken, and the heart stands still
    assert {event.finish_reason for event in last} == {"error"}
    assert all("MemoryError: no memory for a test" in str(event.error) for event in last)
    with pytest.raises(RequestError, match="no memory for a test: restart the server"):
        start(gated, [7], LONG)
    assert is_empty(gated)
    beat = gated.heartbeat()
    until(lambda: gated.heartbeat() > beat)


def test_logits_that_are_not_finite_end_their_request_alone(gated: HybridEngine, gate: Gate) -> None:
    def break_first_of_two(logits: Tensor) -> Tensor:
        return torch.cat([logits[:1] * torch.nan, logits[1:]]) if len(logits) == 2 else logits

    # given two streams, the second from the other's second step on at the latest
    gate.instead = break_first_of_two
    first, second = start(gated, [5], LONG), start(gated, [6], LONG)

    gate.open.set()

    assert first.finish().finish_reason == "error"
    assert "not finite" in str(first.finish().error)
    assert second.finish().finish_reason == "length"


def test_a_sink_that_raises_loses_its_own_request_only(engine: HybridEngine, caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: TokenEvent) -> None:
        raise ValueError("a sink of a test")

    with caplog.at_level(logging.CRITICAL):
        engine.submit([5], LONG, broken)
        answer = generate(engine, [[6]], SamplingParams(max_tokens=30, ignore_eos=True))

    assert len(answer[0]) == 30
    until(lambda: is_empty(engine))


def test_the_heart_beats_when_idle(engine: HybridEngine) -> None:
    first = engine.heartbeat()

    # it falls only when the loop turns
    until(lambda: engine.heartbeat() < first)


def test_a_sequence_that_goes_wrong_leaves_nothing_for_the_next_holder(directory: Path, gate: Gate) -> None:
    # given memory that an earlier holder filled with NaN
    for part in (gate.executor.memory.states, gate.executor.memory.taps):
        part.fill_(torch.nan)
    gate.executor.memory.keys[:, 1:] = torch.nan
    gate.executor.memory.values[:, 1:] = torch.nan
    gate.open.set()
    soiled = HybridEngine(gate, load_config(directory), vocab_size=61, max_waiting=8)
    clean = open_engine(directory)
    prompts = [[5], [6] * 40, [7, 8, 9]]

    # when new sequences of different lengths run on it
    answers = generate(soiled, prompts, SamplingParams(max_tokens=20, ignore_eos=True))

    # then they are as on clean memory
    assert answers == generate(clean, prompts, SamplingParams(max_tokens=20, ignore_eos=True))
    soiled.close()
    clean.close()
