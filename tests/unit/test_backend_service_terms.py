"""Requests are served as they asked to be, and whatever happens, each gets exactly one last response."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api.errors import Overloaded
from nemotron_backend.service import TOKENS_PER_CHECK
from nemotron_backend.tracing import Span
from nemotron_backend.wishes import Wishes
from nemotron_runtime import Terms, TokenEvent
from tests.builders.service import RecordedReply, ScriptedEngine, a_request, a_service, ended, settle

pytestmark = pytest.mark.unit


def test_the_engine_is_told_under_what_terms() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine, clock=lambda: 10.0)

    service.admit(a_request(wishes=Wishes(client="a", priority=7, salt="s", timeout_seconds=2.5)), reply)
    engine.make(1, *b"a", end="stop")

    assert ended(service, reply).text == "a"
    assert engine.terms == [Terms(client="a", priority=7, deadline=12.5, salt="s")]


def test_a_deadline_that_the_engine_saw_first_is_named_as_one() -> None:
    engine, reply, now = ScriptedEngine(), RecordedReply(), [10.0]
    service = a_service(engine, clock=lambda: now[0])
    service.admit(a_request(wishes=Wishes(timeout_seconds=2.0)), reply)

    now[0] = 12.1
    engine.sinks[1](TokenEvent(1, None, "aborted"))

    assert [error.reason for error in ended(service, reply).errors] == ["DeadlineExceeded"]


def test_one_client_may_not_fill_the_replica() -> None:
    engine, first, second, other = ScriptedEngine(), RecordedReply(), RecordedReply(), RecordedReply()
    service = a_service(engine, client_limit=1)
    greedy, modest = a_request(wishes=Wishes(client="greedy")), a_request(wishes=Wishes(client="modest"))

    service.admit(greedy, first)
    service.admit(greedy, second)
    service.admit(modest, other)

    assert [str(error).partition(":")[0] for error in second.errors] == [
        "client 'greedy' has 1 answers in flight and 1 more asked for, at most 1 may be"
    ]
    assert other.errors == []
    engine.make(1, *b"a", end="stop")
    assert first.ended.wait(10)
    again = RecordedReply()
    service.admit(greedy, again)
    engine.make(3, *b"a", end="stop")
    engine.make(2, *b"a", end="stop")
    assert other.ended.wait(10)
    assert ended(service, again).text == "a"


def test_a_full_queue_says_when_to_try_again() -> None:
    now = [0.0]
    engine, refused = ScriptedEngine(), RecordedReply()
    service = a_service(engine, clock=lambda: now[0])
    for second in range(5):
        now[0], reply = 2.0 * second, RecordedReply()
        service.admit(a_request(), reply)
        engine.make(second + 1, *b"a", end="stop")
        assert reply.ended.wait(10)
    engine.refusal = Overloaded("256 requests wait already")

    service.admit(a_request(), refused)

    # One waits, as the engine's load says, and one ends every 2 s.
    assert str(ended(service, refused).errors[0]) == "256 requests wait already; at the present pace, in about 2 s"


def test_a_client_that_left_is_seen_within_sixteen_tokens() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)
    service.admit(a_request(), reply)

    reply.cancelled = True
    engine.make(1, *bytes(TOKENS_PER_CHECK))

    assert [error.reason for error in ended(service, reply).errors] == ["Cancelled"]
    assert TOKENS_PER_CHECK == 16


def test_nobody_is_asked_for_every_token() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)
    service.admit(a_request(stream=True), reply)

    for _ in range(160):
        engine.make(1, *b"a")
    engine.make(1, *b"a", end="stop")

    assert len(ended(service, reply).text) == 161
    assert reply.asked <= 10


def test_responses_gather_as_many_tokens_as_the_client_wishes() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)
    service.admit(a_request(stream=True, wishes=Wishes(stream_interval=4)), reply)

    for letter in b"abcdefghijk":
        before = len(reply.chunks)
        engine.make(1, letter)
        settle(service, engine)
        assert len(reply.chunks) - before <= 1
    engine.make(1, *b"l", end="stop")

    assert [chunk.text for chunk in ended(service, reply).chunks] == ["a", "bcde", "fghi", "jkl"]


@pytest.mark.parametrize("end", ["stop", "error"])
def test_a_finished_request_is_one_span(end: str) -> None:
    engine, reply, now, spans = ScriptedEngine(), RecordedReply(), [1.0], list[Span]()

    class Notebook:
        record = staticmethod(spans.append)

        def close(self) -> None:
            pass

    service = a_service(engine, clock=lambda: now[0], tracer=Notebook())
    service.admit(a_request(stream=True, wishes=Wishes(traceparent="00-1-2-01")), reply)
    now[0] = 1.25
    engine.make(1, *b"ab")
    settle(service, engine)
    now[0] = 1.5
    if end == "stop":
        engine.make(1, *b"c", end="stop")
    else:
        engine.fail(1, "broken")
    ended(service, reply)

    (span,) = (span for span in spans if span.parent)
    assert span.parent == {"traceparent": "00-1-2-01"}
    assert (span.seconds, span.failed) == (0.5, end == "error")
    assert span.attributes["gen_ai.usage.input_tokens"] == 2
    assert span.attributes["gen_ai.usage.output_tokens"] == (3 if end == "stop" else 2)
    assert span.attributes["gen_ai.latency.time_to_first_token"] == 0.25
    assert span.attributes["gen_ai.response.finish_reasons"] == (end if end == "stop" else "RequestFailed",)


def test_a_last_response_that_fails_to_be_made_is_replaced_by_an_excuse() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    reply.broken = True
    service = a_service(engine)

    service.admit(a_request(), reply)
    engine.make(1, *b"a", end="stop")

    (error,) = ended(service, reply).errors
    assert str(error).startswith("internal error, the server's log says more (incident ")


Act = tuple[str, int]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["token", "stop", "fail", "cancel", "late", "sweep", "break", "abort"]), st.integers(1, 3)
        ),
        max_size=30,
    )
)
def test_whatever_happens_every_request_gets_exactly_one_last_response(acts: list[Act]) -> None:
    engine, now = ScriptedEngine(), [0.0]
    service = a_service(engine, clock=lambda: now[0])
    replies = {number: RecordedReply() for number in (1, 2, 3)}
    done: set[int] = set()
    for number in replies:
        wishes = Wishes(timeout_seconds=5.0 * number)
        service.admit(a_request(stream=number != 2, wishes=wishes, stop_words=(".",)), replies[number])

    for act, number in [*acts, ("stop", 1), ("stop", 2), ("stop", 3)]:
        match act:
            case "cancel":
                replies[number].cancelled = True
            case "break":
                replies[number].broken = True
            case "late":
                now[0] += 3.0
            case "sweep":
                service.sweep()
            case _ if number in done | set(engine.aborted):
                continue
            case "token":
                engine.make(number, *b"a.b"[: number + 1])
            case "abort":
                engine.abort(number)
            case "fail":
                done.add(number)
                engine.fail(number, "broken")
            case "stop":
                done.add(number)
                engine.make(number, *b"z", end="stop")
    for reply in replies.values():
        assert reply.ended.wait(10)
    service.close()

    assert [reply.lasts for reply in replies.values()] == [1, 1, 1]
    assert service.active == 0
