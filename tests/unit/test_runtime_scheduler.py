"""The scheduler's decision, as a table: decodes first, then prompt chunks, then whoever fits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_runtime import SamplingParams
from nemotron_runtime.request import Lease, Request
from nemotron_runtime.scheduler import Budget, Free, Step, schedule

pytestmark = pytest.mark.unit

BUDGET = Budget(prefill_tokens=10, page_tokens=4)
PLENTY = Free(slots=8, pages=1000)


def waiting(id: int, prompt: int, max_tokens: int = 4) -> Request:  # noqa: A002 - it is the field's name
    return Request(id, prompt, [7] * prompt, SamplingParams(max_tokens=max_tokens), frozenset(), lambda event: None)


def running(id: int, prompt: int, computed: int, generated: int = 0) -> Request:  # noqa: A002
    request = waiting(id, prompt)
    request.tokens += [7] * generated
    request.computed = computed
    request.lease = Lease(id, (id,))
    return request


def decided(step: Step) -> list[tuple[int, int, int]]:
    """The step's slices as (request, start, tokens)."""
    return [(piece.request.id, piece.start, piece.tokens) for piece in step.slices]


def test_nothing_to_do_is_an_empty_step() -> None:
    assert schedule([], [], PLENTY, BUDGET) == Step((), ())


def test_decodes_come_first_and_prompt_chunks_beside_them() -> None:
    prefill, decode = running(1, prompt=30, computed=4), running(2, prompt=5, computed=5, generated=1)

    step = schedule([waiting(3, prompt=6)], [prefill, decode], PLENTY, BUDGET)

    assert decided(step) == [(2, 5, 1), (1, 4, 10)]
    assert step.admitted == ()


def test_what_a_running_prompt_leaves_of_the_budget_goes_to_the_next_in_line() -> None:
    step = schedule([waiting(2, prompt=6), waiting(3, prompt=9)], [running(1, prompt=7, computed=4)], PLENTY, BUDGET)

    # one token of the third is left, and single tokens stand first
    assert decided(step) == [(3, 0, 1), (1, 4, 3), (2, 0, 6)]
    assert [request.id for request in step.admitted] == [2, 3]


def test_only_a_slice_that_computes_all_that_is_pending_yields_a_token() -> None:
    step = schedule([waiting(1, prompt=4), waiting(2, prompt=20)], [], PLENTY, BUDGET)

    assert [(piece.tokens, piece.is_last) for piece in step.slices] == [(4, True), (6, False)]


def test_decodes_are_not_limited_by_the_budget_for_prompts() -> None:
    decodes = [running(i, prompt=3, computed=3, generated=1) for i in range(50)]

    assert len(schedule([], decodes, PLENTY, BUDGET).slices) == 50


@pytest.mark.parametrize(
    ("free", "admitted"),
    [
        pytest.param(Free(slots=2, pages=5), [1, 2], id="both-fit"),
        pytest.param(Free(slots=1, pages=5), [1], id="one-slot"),
        pytest.param(Free(slots=2, pages=4), [1], id="too-few-pages-for-the-second"),
        pytest.param(Free(slots=0, pages=5), [], id="no-slot"),
        pytest.param(Free(slots=2, pages=1), [], id="no-pages"),
    ],
)
def test_admission_counts_slots_and_pages(free: Free, admitted: list[int]) -> None:
    # given one that needs 2 pages, for 4 + 4 tokens, and one that needs 3, for 5 + 4
    line = [waiting(1, prompt=4), waiting(2, prompt=5)]

    step = schedule(line, [], free, BUDGET)

    assert [request.id for request in step.admitted] == admitted


def test_one_that_does_not_fit_holds_back_those_behind_it() -> None:
    step = schedule([waiting(1, prompt=4, max_tokens=90), waiting(2, prompt=4)], [], Free(slots=2, pages=5), BUDGET)

    assert step.admitted == ()


@given(
    prompts=st.lists(st.integers(1, 40), max_size=12),
    done=st.lists(st.integers(0, 40), max_size=12),
    free=st.builds(Free, st.integers(0, 6), st.integers(0, 60)),
)
def test_a_step_stays_inside_its_budget_and_the_pools(prompts: list[int], done: list[int], free: Free) -> None:
    line = [waiting(100 + i, prompt) for i, prompt in enumerate(prompts)]
    batch = [running(i, prompt=41, computed=computed) for i, computed in enumerate(done)]

    step = schedule(line, batch, free, BUDGET)

    singles = {piece.request.id for piece in step.slices if piece.request in batch and piece.request.pending == 1}
    assert singles == {request.id for request in batch if request.pending == 1}
    assert sum(piece.tokens for piece in step.slices if piece.request.id not in singles) <= BUDGET.prefill_tokens
    assert len(step.admitted) <= free.slots
    assert sum(BUDGET.pages(request) for request in step.admitted) <= free.pages
    assert list(step.admitted) == line[: len(step.admitted)]
    assert [piece.tokens > 1 for piece in step.slices] == sorted(piece.tokens > 1 for piece in step.slices)
    assert all(piece.start == piece.request.computed for piece in step.slices)
