"""One request may have several answers, or the rest of one."""

import pytest

from nemotron_api.errors import Cancelled, Overloaded
from nemotron_runtime import SamplingParams, TokenLogprobs
from tests.builders.service import RecordedReply, ScriptedEngine, a_request, a_service, ended, settle

pytestmark = pytest.mark.unit

SAMPLED = SamplingParams(temperature=1.0, seed=40)


def texts(reply: RecordedReply) -> dict[int | None, str]:
    """What the client reads, by answer."""
    indices = {chunk.sequence_index for chunk in reply.chunks}
    return {index: "".join(chunk.text for chunk in reply.chunks if chunk.sequence_index == index) for index in indices}


def test_answers_come_side_by_side_each_with_its_number() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(stream=True, answers=3, sampling=SAMPLED), reply)
    for request_id, text in ((1, b"ab"), (3, b"xy"), (2, b"pq")):
        engine.make(request_id, *text)
    engine.make(3, *b"!", end="stop")
    engine.make(1, *b"c", end="length")
    assert not reply.lasts
    engine.make(2, *b"?", end="stop")

    assert texts(ended(service, reply)) == {0: "abc", 1: "pq?", 2: "xy!"}
    assert [chunk.sequence_index for chunk in reply.chunks if chunk.finish_reason][-1] == 1
    assert {chunk.prompt_tokens for chunk in reply.chunks} == {2}
    assert [sampling.seed for sampling in engine.samplings] == [40, 41, 42]


def test_without_streaming_each_answer_is_one_response() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(answers=2, sampling=SAMPLED), reply)
    engine.make(2, *b"xy", end="stop")
    engine.make(1, *b"a")
    engine.make(1, *b"b", end="stop")

    assert [(chunk.sequence_index, chunk.text) for chunk in ended(service, reply).chunks] == [(1, "xy"), (0, "ab")]


def test_a_stop_word_ends_its_own_answer_alone() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(stream=True, answers=2, sampling=SAMPLED, stop_words=("##",)), reply)
    engine.make(1, *b"a##b")
    settle(service, engine)
    assert 1 in engine.aborted
    assert 2 not in engine.aborted
    engine.make(2, *b"xyz", end="length")

    assert texts(ended(service, reply)) == {0: "a", 1: "xyz"}
    assert not reply.errors


def test_an_answer_that_finds_no_room_takes_the_others_with_it() -> None:
    engine, reply = ScriptedEngine(places=2), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(stream=True, answers=3, sampling=SAMPLED), reply)

    assert isinstance(ended(service, reply).errors[0], Overloaded)
    assert engine.aborted == [1, 2]


def test_who_goes_away_gives_up_every_answer() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(stream=True, answers=2, sampling=SAMPLED), reply)
    reply.cancelled = True
    service.sweep()

    assert isinstance(ended(service, reply).errors[0], Cancelled)
    assert engine.aborted == [1, 2]


def test_a_failing_answer_fails_the_request_once() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(stream=True, answers=2, sampling=SAMPLED), reply)
    engine.fail(1, "no memory")
    engine.fail(2, "no memory")

    assert [str(error) for error in ended(service, reply).errors] == ["no memory"]


def test_a_resumed_answer_goes_on_after_what_the_client_has() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(stream=True, resumed=(*b"one #",), stop_words=("##",)), reply)
    engine.make(1, *b"1 two", end="length")

    assert [tuple(tokens) for tokens in engine.resumed] == [(*b"one #",)]
    # The client had no text for the # that might have begun a stop word.
    assert ended(service, reply).text == "#1 two"
    assert reply.chunks[-1].completion_tokens == len(b"one #1 two")


def test_words_and_budgets_reach_the_engine_as_tokens() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(bad_words=("no",), reasoning_budget=9), reply)
    engine.make(1, *b"yes", end="stop")

    assert ended(service, reply).text == "yes"
    assert engine.samplings[0].bad_words == ((*b"no",), (*b" no",))
    assert engine.samplings[0].thinking is not None
    assert engine.samplings[0].thinking.tokens == 9


def test_log_probabilities_reach_who_asked() -> None:
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)

    service.admit(a_request(sampling=SamplingParams(logprobs=0)), reply)
    engine.make(1, *b"ab", end="stop", logprobs=TokenLogprobs(-0.5))

    (chunk,) = ended(service, reply).chunks
    assert chunk.logprobs == (TokenLogprobs(-0.5),) * 2
    assert chunk.cum_log_probs == -1.0
