"""Whatever breaks, and whenever: every request hears of its end once, nothing is told after it, nothing is kept."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from nemotron_runtime import HybridEngine, SamplingParams, Terms, TokenEvent
from nemotron_runtime.scheduler import Slice
from nemotron_runtime.types import TokenLogprobs
from tests.builders.gate import is_empty, until
from tests.builders.scripted_executor import ScriptedExecutor, a_ledger, a_request, an_engine, answer_to, play
from tests.builders.streams import PATIENCE_SECONDS, Stream, start

pytestmark = pytest.mark.unit

PROMPT = [9] * 40
DRAFTS = 4


def asking(tokens: int, **changes: float) -> SamplingParams:
    return SamplingParams(max_tokens=tokens, ignore_eos=True, **changes)  # type: ignore[arg-type]


@pytest.fixture
def executor() -> ScriptedExecutor:
    """One with a module, whose drafts are always right."""
    return ScriptedExecutor(has_module=True)


@pytest.fixture
def engine(executor: ScriptedExecutor) -> Iterator[HybridEngine]:
    engine = an_engine(executor, drafts=DRAFTS)
    yield engine
    engine.close()


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What fails on purpose is logged to nobody."""
    with caplog.at_level(logging.CRITICAL):
        yield


def test_drafts_that_are_right_come_out_as_tokens(engine: HybridEngine) -> None:
    assert start(engine, PROMPT, asking(30)).tokens() == answer_to(PROMPT, 30)
    stats = engine.stats()
    assert stats.accepted_tokens == stats.drafted_tokens > 20
    assert is_empty(engine)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("tokens", [50, 4], ids=["that-goes-on", "that-ends-with-them"])
def test_a_sink_that_fails_amid_accepted_drafts_gets_no_token_more(engine: HybridEngine, tokens: int) -> None:
    # given a sink that fails at its second token, which comes with others in one step
    seen: list[TokenEvent] = []

    def sink(event: TokenEvent) -> None:
        seen.append(event)
        if len(seen) == 2:
            raise ValueError("a sink of a test")

    engine.submit(PROMPT, asking(tokens), sink)

    # then all it hears after that is that it ended
    until(lambda: len(seen) > 2 and is_empty(engine))
    start(engine, [5], asking(20)).finish()
    assert [event.finish_reason for event in seen] == [None, None, "aborted"]
    assert [event.token for event in seen] == [*answer_to(PROMPT, 2), None]


class Fault(Exception):
    """What a test has a call raise."""


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("call", "after"), [("enter", 0), *((call, after) for call in ("move", "run", "draft") for after in (0, 1, 2))]
)
def test_a_call_of_the_executor_that_fails_is_told_to_everyone_once(call: str, after: int) -> None:
    calls = []
    ready = threading.Event()

    def fail(name: str, slices: Sequence[Slice]) -> None:
        assert ready.wait(PATIENCE_SECONDS)
        calls.append(name)
        if calls.count(call) > after:
            raise Fault("of a test")

    # given requests of which some end in the very step that fails, some run and some wait
    engine = an_engine(ScriptedExecutor(has_module=True, before=fail), drafts=DRAFTS)
    streams = [start(engine, [5 + number] * 40, asking(tokens)) for number, tokens in enumerate((1, 1, 9, 60, 60, 60))]
    ready.set()

    last = [stream.finish() for stream in streams]

    # then each has one end: its own, or the engine's
    engine.close()
    assert {event.finish_reason for event in last} <= {"length", "error"}
    assert {"error"} <= {event.finish_reason for event in last}
    assert len({event.error for event in last if event.finish_reason == "error"}) == 1
    assert not any("Fault" in str(event.error) or "of a test" in str(event.error) for event in last)
    assert all(stream.arriving.empty() for stream in streams)
    assert is_empty(engine)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
@pytest.mark.parametrize("row", [1, 2, DRAFTS])
def test_a_draft_whose_logits_are_no_numbers_is_dropped_and_its_request_goes_on(row: int, temperature: float) -> None:
    def broken_once(piece: Slice, at: int) -> bool:
        return at == row and len(spoiled) < 3 and not spoiled.append(piece.start)  # type: ignore[func-returns-value]

    # given that a draft's row breaks now and then, beside a stream that is whole
    spoiled: list[int] = []
    executor = ScriptedExecutor(has_module=True, is_spoiled=broken_once)
    engine = an_engine(executor, drafts=DRAFTS)
    whole = an_engine(ScriptedExecutor())
    sampling = asking(30, temperature=temperature, seed=3)

    answers = [stream.tokens() for stream in [start(engine, PROMPT, sampling), start(engine, [7], sampling)]]

    # then the tokens are those without drafts
    assert answers == [start(whole, prompt, sampling).tokens() for prompt in (PROMPT, [7])]
    assert len(spoiled) == 3
    engine.close()
    whole.close()


def test_a_request_whose_logits_are_no_numbers_leaves_no_state_to_go_on_from(executor: ScriptedExecutor) -> None:
    # given a prompt that breaks the model the first time
    broken: list[int] = []
    executor.is_spoiled = lambda piece, row: not broken and not broken.append(1)  # type: ignore[func-returns-value]
    engine = an_engine(executor)

    first, second = start(engine, PROMPT, asking(5)).finish(), start(engine, PROMPT, asking(5))

    assert first.finish_reason == "error"
    assert second.tokens() == answer_to(PROMPT, 5)
    assert engine.stats().prefix_hit_tokens == 0
    engine.close()


@pytest.mark.parametrize("drafts", [0, DRAFTS])
def test_every_step_is_timed_once(drafts: int) -> None:
    engine = an_engine(ScriptedExecutor(has_module=bool(drafts)), prefill_tokens=7, drafts=drafts)

    for stream in [start(engine, PROMPT, asking(9)), start(engine, [6], asking(30))]:
        stream.finish()

    stats = engine.stats()
    assert stats.step_seconds.buckets["+Inf"] == stats.steps > 40 // 7
    assert stats.step_seconds.sum >= stats.last_step_seconds > 0
    engine.close()


def test_log_probabilities_come_with_accepted_drafts(engine: HybridEngine) -> None:
    stream = start(engine, PROMPT, SamplingParams(max_tokens=9, ignore_eos=True, logprobs=1))

    assert stream.tokens() == answer_to(PROMPT, 9)
    for event in stream.events:
        assert isinstance(event.logprobs, TokenLogprobs)
        assert event.logprobs.likeliest[0][0] == event.token


@pytest.mark.parametrize("drafts", [0, DRAFTS])
@pytest.mark.parametrize("step", range(12))
def test_an_abort_in_any_step_ends_its_request_once_and_frees_all(step: int, drafts: int) -> None:
    # given so little room that requests wait, run, and are parked for one of higher priority
    engine_of: list[HybridEngine] = []
    streams: list[Stream] = []
    ready = threading.Event()
    runs = []

    def abort_some(name: str, slices: Sequence[Slice]) -> None:
        assert ready.wait(PATIENCE_SECONDS)
        runs.extend([name] if name == "run" else [])
        if name == "run" and len(runs) == 3:
            streams.append(start(engine_of[0], [50] * 30, asking(6), Terms(priority=1)))
        if name == "run" and len(runs) == 1 + step:
            for stream in streams[::2]:
                engine_of[0].abort(stream.id)

    executor = ScriptedExecutor(has_module=bool(drafts), before=abort_some)
    engine = an_engine(executor, running=2, slots=3, pages=9, prefill_tokens=24, drafts=drafts)
    engine_of.append(engine)
    prompts = [[10 + number] * 30 for number in range(4)]
    streams += [start(engine, prompt, asking(12)) for prompt in prompts]
    ready.set()

    last = [stream.finish() for stream in streams]

    # then those that were left alone have their whole answers
    until(lambda: is_empty(engine))
    assert all(stream.arriving.empty() for stream in streams)
    assert {event.finish_reason for event in last} <= {"length", "aborted"}
    assert [stream.tokens() for stream in streams[1:4:2]] == [answer_to(prompt, 12) for prompt in prompts[1::2]]
    for stream, prompt in zip(streams[:4:2], prompts[::2], strict=True):
        assert stream.tokens() == answer_to(prompt, 12)[: len(stream.tokens())]
    assert engine.stats().preemptions > 0 or step < 3
    engine.close()


def test_a_parked_request_that_is_aborted_holds_nothing() -> None:
    # given one that lost its place to one of higher priority
    ledger = a_ledger(running=1, slots=2)
    low, high = (a_request(number, PROMPT, 8, Terms(priority=number)) for number in (0, 1))
    executor = ScriptedExecutor()
    ledger.add(low)
    play(ledger, executor, 2)
    ledger.add(high)
    play(ledger, executor, 1)
    assert low.parked is not None

    ledger.release([low])

    play(ledger, executor, 20)
    assert not ledger.all()
    assert ledger.holdings.pages.used == ledger.holdings.kept_pages


def test_a_deadline_that_has_passed_orders_a_request_and_does_not_end_it(engine: HybridEngine) -> None:
    late = start(engine, PROMPT, asking(8), Terms(deadline=time.monotonic() - 100))

    assert late.tokens() == answer_to(PROMPT, 8)
