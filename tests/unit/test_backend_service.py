"""Every request gets exactly one last response, whatever happens to it."""

import re
import threading

import pytest

from nemotron_api.errors import InvalidRequest, NemotronError, Overloaded, RequestError
from nemotron_backend.answer import Chunk
from nemotron_backend.stream import Call
from nemotron_backend.wishes import Wishes
from tests.builders.service import RecordedReply, ScriptedEngine, a_request, a_service, ended

pytestmark = pytest.mark.unit


def test_tokens_become_text() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(stream=True), reply)
    engine.make(1, *b"abc", end="length")

    assert ended(service, reply).text == "abc"
    assert reply.chunks[-1].finish_reason == "length"
    assert reply.chunks[-1].prompt_tokens == 2


def test_what_gathers_while_sending_goes_out_together() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)
    sending, go_on = threading.Event(), threading.Event()
    send = reply.send

    def slow_send(chunk: Chunk, *, final: bool) -> None:
        sending.set()
        go_on.wait(10)
        send(chunk, final=final)

    reply.send = slow_send  # type: ignore[method-assign]
    service.admit(a_request(stream=True), reply)
    engine.make(1, *b"a")
    assert sending.wait(10)
    engine.make(1, *b"bcd", end="stop")
    go_on.set()

    assert [chunk.text for chunk in ended(service, reply).chunks] == ["a", "bcd"]


def test_a_sender_that_hangs_is_seen() -> None:
    now = [5.0]
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine, clock=lambda: now[0])
    sending, go_on = threading.Event(), threading.Event()

    def hang(chunk: Chunk, *, final: bool) -> None:
        sending.set()
        go_on.wait(10)
        reply.ended.set()

    reply.send = hang  # type: ignore[method-assign]
    service.admit(a_request(), reply)
    assert service.stall_seconds == 0.125
    engine.make(1, *b"a", end="stop")
    assert sending.wait(10)
    now[0] = 70.0

    assert service.stall_seconds == 65.0
    go_on.set()
    service.close()
    assert service.stall_seconds == 0.125


def test_without_streaming_there_is_one_response() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(), reply)
    engine.make(1, *b"ab")
    engine.make(1, *b"c", end="length")

    assert [(chunk.text, chunk.completion_tokens) for chunk in ended(service, reply).chunks] == [("abc", 3)]


@pytest.mark.parametrize("error", [InvalidRequest("too long"), Overloaded("full")])
def test_a_refusal_of_the_engine_reaches_the_client(error: NemotronError) -> None:
    reply = RecordedReply()
    service = a_service(ScriptedEngine(refusal=error))

    service.admit(a_request(), reply)

    assert ended(service, reply).errors == [error]
    assert service.tally.failures == {error.reason: 1}


def test_a_request_that_cannot_be_read_is_answered() -> None:
    def unreadable() -> Call:
        raise InvalidRequest("what is this")

    reply = RecordedReply()
    service = a_service(ScriptedEngine())

    service.admit(unreadable, reply)

    assert [str(error) for error in ended(service, reply).errors] == ["what is this"]


def test_an_unexpected_error_keeps_internals_from_the_client_and_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    reply = RecordedReply()
    service = a_service(ScriptedEngine(refusal=ZeroDivisionError("secret path")))

    service.admit(a_request(), reply)

    (error,) = ended(service, reply).errors
    told = re.fullmatch(r"internal error, the server's log says more \((incident [0-9a-f]{8})\)", str(error))
    assert told
    assert f"({told[1]})\nTraceback" in caplog.text
    assert "ZeroDivisionError: secret path" in caplog.text


def test_a_draining_replica_refuses() -> None:
    reply = RecordedReply()
    service = a_service(ScriptedEngine(), refusing=True)

    service.admit(a_request(), reply)

    assert [error.reason for error in ended(service, reply).errors] == ["ShuttingDown"]


def test_the_engines_failure_reaches_the_client() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(stream=True), reply)
    engine.make(1, *b"a")
    engine.fail(1, "the step failed")

    assert [str(error) for error in ended(service, reply).errors] == ["the step failed"]


def test_a_stop_word_aborts_what_is_not_needed() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(stop_words=(".",)), reply)
    engine.make(1, *b"one. two")

    assert ended(service, reply).text == "one"
    assert reply.errors == []
    assert engine.aborted == [1]


def test_a_stop_word_may_come_before_the_engine_told_the_id() -> None:
    engine, reply = ScriptedEngine(at_once=tuple(b"one.")), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(stop_words=(".",)), reply)

    assert ended(service, reply).text == "one"
    assert engine.aborted == [1]


def test_a_client_that_went_away_frees_the_engine() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)
    service.admit(a_request(stream=True), reply)

    service.sweep()
    assert engine.aborted == []
    reply.cancelled = True
    service.sweep()

    assert [error.reason for error in ended(service, reply).errors] == ["Cancelled"]
    assert engine.aborted == [1]


def test_a_deadline_that_passed_ends_the_request() -> None:
    engine, reply, now = ScriptedEngine(), RecordedReply(), [10.0]
    service = a_service(engine, clock=lambda: now[0])
    service.admit(a_request(wishes=Wishes(timeout_seconds=2.5)), reply)

    now[0] = 12.4
    service.sweep()
    assert engine.aborted == []
    now[0] = 12.6
    service.sweep()

    assert [str(error) for error in ended(service, reply).errors] == ["the request's own timeout of 2.5 s has passed"]


def test_a_reply_that_cannot_be_sent_harms_no_other() -> None:
    engine, broken, whole = ScriptedEngine(), RecordedReply(), RecordedReply()
    service = a_service(engine)
    broken.broken = True

    service.admit(a_request(stream=True), broken)
    service.admit(a_request(stream=True), whole)
    engine.make(1, *b"a")
    engine.make(2, *b"b", end="stop")

    assert whole.ended.wait(10)
    assert ended(service, broken).errors[0].reason == "RequestFailed"
    assert whole.text == "b"
    assert 1 in engine.aborted


@pytest.mark.parametrize(
    ("refusal", "failed"),
    [(RequestError("the engine stopped"), True), (Overloaded("full"), False), (InvalidRequest("too long"), False)],
)
def test_an_engine_that_failed_is_told_from_one_that_refuses(refusal: NemotronError, failed: bool) -> None:
    reply = RecordedReply()
    service = a_service(ScriptedEngine(refusal=refusal))

    service.admit(a_request(), reply)

    assert ended(service, reply).errors == [refusal]
    assert service.has_failed is failed
