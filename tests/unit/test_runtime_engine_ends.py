"""Whatever ends a request early, everything it held is free, and the others go on."""

import logging
import math
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nemotron_api.errors import RequestError
from nemotron_runtime import HybridEngine, SamplingParams, TokenEvent, open_engine
from tests.builders.gate import Gate, a_packed_engine, is_empty, is_refused, until
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
    gate.open.set()
    last = [running.finish(), waiting.finish()]

    # then both hear that it stopped and under which number the log has why, no more is taken, the heart stands still
    assert {event.finish_reason for event in last} == {"error"}
    (told,) = {str(event.error) for event in last}
    assert "Memory" not in told
    (incident,) = re.findall(r"the engine has stopped, the server's log says why \((incident [0-9a-f]{8})\)", told)
    assert re.search(rf"\({incident}\)\nTraceback(.*\n)*MemoryError: no memory for a test", caplog.text)
    with pytest.raises(RequestError, match=incident):
        start(gated, [7], LONG)
    assert is_empty(gated)
    assert gated.heartbeat() == math.inf


@pytest.mark.parametrize(
    "sampling", [LONG, replace(LONG, temperature=1.0, min_p=0.1), replace(LONG, temperature=1.0, top_p=0.5)]
)
def test_logits_that_are_not_finite_end_their_request_alone(
    sampling: SamplingParams, gated: HybridEngine, gate: Gate
) -> None:
    def break_first_of_two(logits: Tensor) -> Tensor:
        return torch.cat([logits[:1] * torch.nan, logits[1:]]) if len(logits) == 2 else logits

    # given two streams, the second from the other's second step on at the latest
    gate.instead = break_first_of_two
    first, second = start(gated, [5], sampling), start(gated, [6], sampling)

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


def test_a_sequence_that_goes_wrong_leaves_nothing_for_the_next_holder(directory: Path, gate: Gate) -> None:
    # given memory that an earlier holder filled with NaN
    for stack in gate.executor.memory.stacks:
        stack.fill_(torch.nan)
    gate.executor.memory.keys[:, 1:] = torch.nan
    gate.executor.memory.values[:, 1:] = torch.nan
    gate.open.set()
    soiled = gate.an_engine(max_waiting=8)
    clean = open_engine(directory)
    prompts = [[5], [6] * 40, [7, 8, 9]]

    # when new sequences of different lengths run on it
    answers = generate(soiled, prompts, SamplingParams(max_tokens=20, ignore_eos=True))

    # then they are as on clean memory
    assert answers == generate(clean, prompts, SamplingParams(max_tokens=20, ignore_eos=True))
    soiled.close()
    clean.close()
