"""The scheduler's decision, as a table: decodes first, then prompt chunks, then whoever fits."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_runtime import SamplingParams, Terms
from nemotron_runtime.request import Lease, Request
from nemotron_runtime.scheduler import Budget, Candidate, Pools, Step, rank, schedule
from nemotron_runtime.tails import WINDOW

pytestmark = pytest.mark.unit

BUDGET = Budget(prefill_tokens=10, page_tokens=4, running=8)


def room(slots: int = 8, pages: int = 1000, spared_pages: int = 0) -> Pools:
    return Pools(slots, pages, spared_pages, freed_pages=lambda request: len(request.held.pages))


def waiting(id: int, prompt: int, *, priority: int = 0) -> Request:  # noqa: A002 - it is the field's name
    sampling = SamplingParams(max_tokens=4)
    return Request(id, prompt, [7] * prompt, sampling, lambda event: None, Terms(priority=priority))


def new(id: int, prompt: int, *, priority: int = 0, reused: int = 0) -> Candidate:  # noqa: A002
    return Candidate(waiting(id, prompt, priority=priority), reused, reused // BUDGET.page_tokens)


def running(
    id: int,  # noqa: A002
    prompt: int,
    computed: int,
    generated: int = 0,
    *,
    priority: int = 0,
    drafts: int = 0,
) -> Request:
    request = waiting(id, prompt, priority=priority)
    request.tokens += [7] * generated
    request.computed = computed
    request.drafts = (9,) * drafts
    request.lease = Lease(id, list(range(BUDGET.pages(computed))))
    return request


def decided(step: Step) -> list[tuple[int, int, int]]:
    """The step's slices as (request, start, tokens)."""
    return [(piece.request.id, piece.start, piece.tokens) for piece in step.slices]


def ids(requests: tuple[Request, ...]) -> list[int]:
    return [request.id for request in requests]


def test_nothing_to_do_is_an_empty_step() -> None:
    assert schedule([], [], room(), BUDGET) == Step((), (), ())


def test_decodes_come_first_and_prompt_chunks_beside_them() -> None:
    prefill, decode = running(1, prompt=30, computed=4), running(2, prompt=5, computed=5, generated=1)

    step = schedule([new(3, prompt=6)], [prefill, decode], room(), BUDGET)

    assert decided(step) == [(2, 5, 1), (1, 4, 10)]
    assert step.admitted == ()


def test_what_a_running_prompt_leaves_of_the_budget_goes_to_the_next_in_line() -> None:
    step = schedule([new(2, prompt=6), new(3, prompt=9)], [running(1, prompt=7, computed=4)], room(), BUDGET)

    # one token of the third is left, and slices with few tokens stand first
    assert decided(step) == [(3, 0, 1), (1, 4, 3), (2, 0, 6)]
    assert [each.request.id for each in step.admitted] == [2, 3]


def test_only_a_slice_that_computes_all_that_is_pending_yields_a_token() -> None:
    step = schedule([new(1, prompt=4), new(2, prompt=20)], [], room(), BUDGET)

    assert [(piece.tokens, piece.is_last) for piece in step.slices] == [(4, True), (6, False)]


def test_decodes_are_not_limited_by_the_budget_for_prompts() -> None:
    decodes = [running(i, prompt=3, computed=3, generated=1) for i in range(50)]

    assert len(schedule([], decodes, room(), BUDGET).slices) == 50


def test_sequences_of_neighbouring_slots_stand_side_by_side() -> None:
    decodes = [running(i, prompt=3, computed=3, generated=1) for i in (4, 2, 3)]

    assert [piece.lease.slot for piece in schedule([], decodes, room(), BUDGET).slices] == [2, 3, 4]


def test_drafts_are_computed_with_their_decode_as_many_as_a_window_holds() -> None:
    request = running(1, prompt=3, computed=3, generated=1, drafts=2 * WINDOW)

    (piece,) = schedule([], [request], room(), BUDGET).slices

    assert (piece.tokens, piece.confirmed, piece.is_last) == (WINDOW, 1, True)
    assert piece.ids == [7, *[9] * (WINDOW - 1)]


def test_a_chunk_ends_where_a_state_is_to_be_kept() -> None:
    request = running(1, prompt=30, computed=4)
    request.stops = [30, 9]

    assert decided(schedule([], [request], room(), BUDGET)) == [(1, 4, 5)]


def test_what_was_kept_of_a_prompt_is_not_computed() -> None:
    step = schedule([new(1, prompt=9, reused=8)], [], room(pages=1), BUDGET)

    assert decided(step) == [(1, 8, 1)]


@pytest.mark.parametrize(
    ("pools", "admitted"),
    [
        pytest.param(room(slots=2, pages=4), [1, 2], id="both-fit"),
        pytest.param(room(slots=1, pages=4), [1], id="one-slot"),
        pytest.param(room(slots=2, pages=3), [1], id="no-page-for-the-first-to-grow"),
        pytest.param(room(slots=0, pages=5), [], id="no-slot"),
        pytest.param(room(slots=2, pages=0), [], id="no-pages"),
        pytest.param(room(slots=2, pages=0, spared_pages=9), [], id="pages-that-another-candidate-wants"),
    ],
)
def test_admission_counts_slots_and_pages(pools: Pools, admitted: list[int]) -> None:
    # given one that needs a page and one that needs two
    line = [new(1, prompt=4), new(2, prompt=5)]

    step = schedule(line, [], pools, BUDGET)

    assert [each.request.id for each in step.admitted] == admitted


def test_no_more_run_than_may() -> None:
    decodes = [running(i, prompt=3, computed=3, generated=1) for i in range(2)]

    step = schedule([new(9, prompt=2), new(10, prompt=2)], decodes, room(), replace(BUDGET, running=3))

    assert [each.request.id for each in step.admitted] == [9]


def test_one_that_does_not_fit_holds_back_those_behind_it() -> None:
    step = schedule([new(1, prompt=90), new(2, prompt=4)], [], room(pages=5), BUDGET)

    assert step.admitted == ()


def test_when_pages_run_out_the_last_to_come_gives_up_its_place() -> None:
    # given three that all need a page more, for which one is left
    decodes = [running(i, prompt=4, computed=4, generated=1) for i in (1, 2, 3)]

    step = schedule([], decodes, room(pages=1), BUDGET)

    assert ids(step.preempted) == [3]
    assert [piece.request.id for piece in step.slices] == [1, 2]


def test_pages_that_candidates_want_are_for_those_that_run() -> None:
    decode = running(1, prompt=4, computed=4, generated=1)

    step = schedule([new(2, prompt=1)], [decode], room(pages=0, spared_pages=1), BUDGET)

    assert (ids(step.preempted), decided(step), step.admitted) == ([], [(1, 4, 1)], ())


def test_a_sequence_that_is_alone_and_finds_no_page_waits_for_the_next_step() -> None:
    step = schedule([], [running(1, prompt=4, computed=4, generated=1)], room(pages=0), BUDGET)

    assert (ids(step.preempted), step.slices) == ([1], ())


@pytest.mark.parametrize(
    ("priority", "preempted"),
    [
        pytest.param(2, [2], id="higher-takes-the-lowest-ones-place"),
        pytest.param(1, [2], id="equal-to-one-higher-than-another"),
        pytest.param(0, [], id="equal-waits"),
        pytest.param(-1, [], id="lower-waits"),
    ],
)
def test_a_higher_priority_takes_a_place(priority: int, preempted: list[int]) -> None:
    decodes = [
        running(1, prompt=3, computed=3, generated=1, priority=1),
        running(2, prompt=3, computed=3, generated=1, priority=0),
    ]

    step = schedule([new(3, prompt=2, priority=priority)], decodes, room(slots=0), BUDGET)

    assert ids(step.preempted) == preempted
    assert [each.request.id for each in step.admitted] == [3] * len(preempted)
    assert {piece.request.id for piece in step.slices} == {1, 2, 3} - set(preempted or [3])


def test_who_is_served_first() -> None:
    early, late = waiting(1, 1), waiting(2, 1)
    urgent, soon = waiting(3, 1, priority=1), waiting(4, 1)
    soon.terms = Terms(deadline=50.0)

    # given that late's client had more so far than the others'
    served = {1: 5.0, 2: 9.0, 3: 100.0, 4: 5.0}
    order = sorted([late, early, urgent, soon], key=lambda request: rank(request, served[request.id]))

    assert [request.id for request in order] == [3, 4, 1, 2]


@given(
    prompts=st.lists(st.integers(1, 40), max_size=12),
    done=st.lists(st.integers(0, 40), max_size=8),
    slots=st.integers(0, 6),
    pages=st.integers(0, 60),
    priorities=st.randoms(use_true_random=False),
)
def test_a_step_stays_inside_its_budget_and_the_pools(
    prompts: list[int], done: list[int], slots: int, pages: int, priorities: Random
) -> None:
    line = [new(100 + i, prompt, priority=priorities.randint(0, 2)) for i, prompt in enumerate(prompts)]
    line.sort(key=lambda each: rank(each.request, 0.0))
    batch = [running(i, 41, computed, priority=priorities.randint(0, 2)) for i, computed in enumerate(done)]

    step = schedule(line, batch, room(slots, pages), BUDGET)

    staying = [request for request in batch if request not in step.preempted]
    freed = sum(len(request.held.pages) for request in step.preempted)
    grown = sum(
        max(0, BUDGET.pages(piece.stop) - len(piece.lease.pages)) for piece in step.slices if piece.request in staying
    )
    taken = sum(BUDGET.pages(len(each.request.tokens)) - each.shared for each in step.admitted)
    assert grown + taken <= pages + freed
    assert len(step.admitted) <= slots + len(step.preempted)
    assert len(staying) + len(step.admitted) <= max(BUDGET.running, len(batch))
    singles = {request.id for request in staying if request.pending == 1}
    assert singles <= {piece.request.id for piece in step.slices}
    assert sum(piece.tokens for piece in step.slices if not piece.is_decode) <= BUDGET.prefill_tokens
    assert list(step.admitted) == line[: len(step.admitted)]
    assert [piece.tokens for piece in step.slices] == sorted(piece.tokens for piece in step.slices)
    assert not {piece.request.id for piece in step.slices} & set(ids(step.preempted))


def test_nobody_gives_up_a_place_for_one_who_cannot_have_it_yet() -> None:
    # given a prompt that takes the whole budget, so that one of higher priority than the other could compute nothing
    prefill = running(1, prompt=30, computed=4, priority=1)
    decode = running(2, prompt=3, computed=3, generated=1)

    step = schedule([new(3, prompt=5, priority=1)], [prefill, decode], room(slots=0), BUDGET)

    assert (ids(step.preempted), step.admitted) == ([], ())
    assert {piece.request.id for piece in step.slices} == {1, 2}


def test_nobody_gives_up_a_place_that_would_not_suffice() -> None:
    # given one of low priority with a page, and a prompt that needs more pages than that and those of nobody
    decodes = [running(1, prompt=3, computed=3, generated=1, priority=2), running(2, prompt=3, computed=3, generated=1)]

    step = schedule([new(3, prompt=40, priority=1)], decodes, room(slots=1, pages=3), BUDGET)

    assert (ids(step.preempted), step.admitted) == ([], ())


def test_a_prompt_that_makes_room_leaves_its_share_of_the_budget() -> None:
    prefill = running(1, prompt=30, computed=4)

    step = schedule([new(2, prompt=8, priority=1)], [prefill], room(slots=0), BUDGET)

    assert (ids(step.preempted), decided(step)) == ([1], [(2, 0, 8)])
