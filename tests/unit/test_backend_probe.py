"""However many ask whether tokens come, the replica makes one."""

import threading

import pytest

from nemotron_backend.probe import FRESH_SECONDS, Question

pytestmark = pytest.mark.unit


def test_an_answer_serves_everybody_for_a_second() -> None:
    now, answers = [100.0], iter([None, "no token within 20 s", None])
    question = Question(lambda: next(answers), lambda: now[0])

    assert [question(), question()] == [None, None]
    now[0] += FRESH_SECONDS
    assert [question(), question()] == ["no token within 20 s"] * 2
    now[0] += FRESH_SECONDS
    assert question() is None


def test_those_who_ask_meanwhile_get_the_same_answer() -> None:
    asked, go_on = threading.Event(), threading.Event()
    calls: list[int] = []

    def ask() -> None:
        calls.append(1)
        asked.set()
        go_on.wait(10)

    question = Question(ask, lambda: 100.0)
    threads = [threading.Thread(target=question) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert asked.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)

    assert len(calls) == 1
