"""Drafts may cost a hundredth of the time by the clock: where they pay they stay, and where they do not they rest."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_runtime.governor import (
    DRAFTING_STEPS,
    LONGEST,
    PLAIN_STEPS,
    RESERVE_STEPS,
    SHARE,
    Governor,
    Phase,
)
from nemotron_runtime.step_cost import StepTimes

pytestmark = pytest.mark.unit

PLAIN = 0.01
"""Seconds of a step without drafts."""


def a_governor() -> Governor:
    return Governor(StepTimes(experts=0, chosen=0))


def play(governor: Governor, steps: int, seconds: float, drafted: int = 0, preparing: float = 0.0) -> list[Phase]:
    """The phases of so many steps of one stream; those with drafts take `seconds` and give `drafted` more tokens."""
    phases = []
    for _ in range(steps):
        phases.append(governor.phase)
        if governor.phase is Phase.DRAFTING:
            governor.note(1, drafted, seconds, preparing)
        else:
            governor.note(1, 0, PLAIN, 0.0)
    return phases


@given(
    steps=st.lists(st.tuples(st.floats(0.0, LONGEST * PLAIN), st.integers(0, 3), st.floats(0.0, PLAIN)), max_size=900)
)
def test_whatever_drafts_do_their_steps_take_a_hundredth_more_than_none_and_the_reserve(
    steps: list[tuple[float, int, float]],
) -> None:
    governor, spent, tokens = a_governor(), 0.0, 0
    for seconds, drafted, preparing in steps:
        if governor.phase is Phase.DRAFTING:
            governor.note(1, drafted, seconds, preparing)
            spent, tokens = spent + min(seconds + preparing, LONGEST * PLAIN), tokens + 1 + drafted
        else:
            governor.note(1, 0, PLAIN, 0.0)
            spent, tokens = spent + PLAIN, tokens + 1

    assert spent <= (1 + SHARE) * PLAIN * tokens + (RESERVE_STEPS + LONGEST) * PLAIN


def test_drafts_that_make_every_step_half_as_long_again_and_never_match_are_made_in_one_step_of_fifty() -> None:
    phases = play(a_governor(), 50_000, 1.5 * PLAIN)

    assert 0.005 < phases.count(Phase.DRAFTING) / len(phases) < 0.025
    # and most of the time nothing is prepared for them either
    assert phases.count(Phase.MEASURING) == PLAIN_STEPS


def test_what_it_takes_to_prepare_drafts_counts_as_much_as_computing_them() -> None:
    assert Phase.RESTING in play(a_governor(), 500, PLAIN, preparing=0.5 * PLAIN)


def test_drafts_that_pay_are_made_in_all_steps_but_those_that_measure_what_one_takes_without() -> None:
    phases = play(a_governor(), 10 * (DRAFTING_STEPS + PLAIN_STEPS), 1.5 * PLAIN, drafted=1)

    assert phases.count(Phase.RESTING) == 0
    assert phases.count(Phase.MEASURING) == 10 * PLAIN_STEPS


def test_drafts_that_begin_to_pay_are_soon_made_all_the_time() -> None:
    governor = a_governor()
    play(governor, 1000, 2 * PLAIN)
    assert governor.phase is Phase.RESTING

    # when each brings a token more from now on
    phases = play(governor, 6000, 1.5 * PLAIN, drafted=1)

    # then they rest for as long as the purse takes to fill, once
    assert phases.count(Phase.RESTING) <= 1.1 * RESERVE_STEPS / SHARE
    assert phases[-1] is not Phase.RESTING


def test_a_pause_of_the_machine_alone_does_not_end_drafts_that_pay() -> None:
    governor = a_governor()
    play(governor, 100, 1.5 * PLAIN, drafted=1)

    governor.note(1, 1, 60.0, 0.0)

    assert governor.phase is Phase.DRAFTING


def test_a_first_step_that_takes_long_does_not_make_drafts_look_cheap() -> None:
    governor = a_governor()

    governor.note(1, 0, 40 * PLAIN, 0.0)

    assert play(governor, 1000, 3 * PLAIN, drafted=1).count(Phase.DRAFTING) < 50


def test_a_purse_is_as_full_as_it_was_when_other_companies_take_longer() -> None:
    governor = a_governor()
    play(governor, PLAIN_STEPS, PLAIN)
    for _ in range(PLAIN_STEPS):
        governor.plain.add(32, 0, 10 * PLAIN)

    governor.note(32, 0, 10 * PLAIN, 0.0)

    assert governor.purse == pytest.approx(RESERVE_STEPS * 10 * PLAIN, rel=0.1)
