"""Clients get equal shares while they wait, and nobody waits for ever."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_runtime import Terms
from nemotron_runtime.ledger import CLIENTS_REMEMBERED, Ledger
from nemotron_runtime.scheduler import line_up
from tests.builders.scripted_executor import ScriptedExecutor, a_ledger, a_request, play

pytestmark = pytest.mark.unit


def waits(ledger: Ledger, client: str) -> bool:
    return any(request.terms.client == client for request in ledger.waiting)


@given(
    worth=st.tuples(st.integers(1, 60), st.integers(1, 30)),
    other=st.tuples(st.integers(1, 60), st.integers(1, 30)),
    running=st.integers(1, 5),
    busy_first=st.booleans(),
)
def test_ten_times_the_requests_give_no_more_service(
    worth: tuple[int, int], other: tuple[int, int], running: int, busy_first: bool
) -> None:
    # given two clients, one of which sends ten times as much; whatever their requests are worth
    ledger = a_ledger(running=running, slots=running, pages=400, prefill_tokens=48)
    executor, dice = ScriptedExecutor(), random.Random(1)
    sent = [("busy", worth)] * 60 + [("modest", other)] * 6
    for number, (client, (prompt, tokens)) in enumerate(sent if busy_first else reversed(sent)):
        salted = Terms(client=client, salt=str(number))
        ledger.add(a_request(number, dice.choices(range(5, 61), k=prompt), tokens, salted))

    # then while both wait, they are apart by one request's worth for each that runs, at most
    served: Counter[str] = Counter()
    most = max(sum(worth), sum(other))
    while waits(ledger, "busy") and waits(ledger, "modest"):
        (step,) = play(ledger, executor)
        for piece in step.slices:
            served[piece.request.terms.client] += piece.tokens
        assert abs(served["busy"] - served["modest"]) <= most * running
    assert min(served.values()) > 0


def test_a_clients_second_request_stands_behind_anothers_first() -> None:
    waiting = [a_request(number, [5] * 10, 5, Terms(client=client)) for number, client in enumerate("aaabb")]

    order = line_up(waiting, {"a": 0.0, "b": 0.0})

    assert ["aaabb"[request.id] for request in order] == ["a", "b", "a", "b", "a"]


def test_one_that_was_away_gets_no_credit_for_it() -> None:
    # given a client that had much while nobody else was there
    ledger, executor = a_ledger(running=1, slots=1), ScriptedExecutor()
    for number in range(6):
        ledger.add(a_request(number, [5 + number] * 20, 20, Terms(client="old")))
    play(ledger, executor, 60)

    # when another one comes with as many
    for number in range(10, 16):
        ledger.add(a_request(number, [5 + number] * 20, 20, Terms(client="new")))
        ledger.add(a_request(number + 10, [15 + number] * 20, 20, Terms(client="old")))
    order = [request.terms.client for request in line_up(ledger.waiting, ledger._served)]

    assert order[:8].count("new") in (4, 5)


def test_clients_that_never_come_back_are_forgotten() -> None:
    ledger, executor = a_ledger(), ScriptedExecutor()

    for number in range(3 * CLIENTS_REMEMBERED):
        ledger.add(a_request(number, [5], 1, Terms(client=f"client {number}")))
        play(ledger, executor, 2)

    assert not ledger.all()
    assert CLIENTS_REMEMBERED <= len(ledger._served) <= 2 * CLIENTS_REMEMBERED


@given(
    crowd=st.lists(
        st.tuples(st.integers(0, 2), st.integers(1, 50), st.sampled_from([None, 0.0, 1e9])), min_size=1, max_size=30
    ),
    pages=st.integers(6, 20),
)
def test_whatever_the_priorities_everyone_of_a_client_is_served(
    crowd: list[tuple[int, int, float | None]], pages: int
) -> None:
    ledger, executor = a_ledger(running=2, slots=3, pages=pages, prefill_tokens=24), ScriptedExecutor()
    for number, (priority, prompt, deadline) in enumerate(crowd):
        ledger.add(a_request(number, [5 + number] * prompt, 20, Terms("a", priority, deadline)))

    play(ledger, executor, 50 * len(crowd))

    assert not ledger.all()
    assert ledger.stats(0.0).generated_tokens == 20 * len(crowd)


@given(prompts=st.lists(st.integers(1, 50), min_size=2, max_size=20), pages=st.integers(6, 20))
def test_of_equal_requests_the_first_to_come_ends_first_or_with_the_next(prompts: list[int], pages: int) -> None:
    ledger, executor = a_ledger(running=1, slots=3, pages=pages, prefill_tokens=24), ScriptedExecutor()
    for number, prompt in enumerate(prompts):
        ledger.add(a_request(number, [5 + number] * prompt, 3))

    ended: list[int] = []
    while ledger.all():
        left = {request.id for request in ledger.all()}
        play(ledger, executor)
        ended += sorted(left - {request.id for request in ledger.all()})

    assert ended == sorted(ended)
