"""Drafts are as long as pays, and when none pays they cost next to nothing: simulated on machines of many kinds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemotron_runtime.draft_length import LONGEST_DRAFT, RESERVE_STEPS, Acceptance, DraftLengths, hopes
from nemotron_runtime.step_cost import StepCost, StepTimes
from tests.builders.machine import COSTS, Simulation, by_chance, gains

pytestmark = pytest.mark.unit

RATES = st.lists(st.sampled_from([0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 1.0]), min_size=LONGEST_DRAFT, max_size=LONGEST_DRAFT)
MOST = st.sampled_from([1, 3, 8, LONGEST_DRAFT])

LEARNING_STEPS = 8.0
"""What it may cost beside the reserve to learn what steps cost at all."""


@settings(max_examples=60, deadline=None)
@given(
    cost=COSTS,
    most=MOST,
    is_module=st.booleans(),
    sequences=st.sampled_from([1, 3]),
    right=st.lists(st.tuples(st.integers(1, 60), st.sampled_from([0, 0, 1, 2, LONGEST_DRAFT])), min_size=1),
)
def test_whatever_is_accepted_no_stretch_of_steps_is_more_than_3_percent_and_a_constant_slower_than_without_drafts(
    cost: StepCost, most: int, is_module: bool, sequences: int, right: list[tuple[int, int]]
) -> None:
    # given someone who accepts as many tokens as it pleases, for as many steps as it pleases
    pattern = [tokens for steps, tokens in right for _ in range(steps)]

    simulation = Simulation(
        cost, lambda step, *_: pattern[step % len(pattern)], most=most, is_module=is_module, sequences=sequences
    )

    assert simulation.run(500).worst_loss() <= RESERVE_STEPS + LEARNING_STEPS


@settings(max_examples=20, deadline=None)
@given(cost=COSTS, most=MOST, is_module=st.booleans(), sequences=st.sampled_from([1, 3]))
def test_drafts_that_never_match_soon_cost_one_percent(
    cost: StepCost, most: int, is_module: bool, sequences: int
) -> None:
    simulation = Simulation(cost, lambda *_: 0, most=most, is_module=is_module, sequences=sequences).run(1500)

    # probes come in lumps: the last one before the stretch was saved for during it, or the other way round
    assert sum(simulation.seconds[500:]) <= 1.01 * 1000 * simulation.off + 16 * simulation.off


@settings(max_examples=25, deadline=None)
@given(cost=COSTS, rates=RATES, most=MOST, is_module=st.booleans(), seed=st.integers(0, 99))
def test_steady_acceptance_leads_to_within_5_percent_of_the_best_rate(
    cost: StepCost, rates: list[float], most: int, is_module: bool, seed: int
) -> None:
    simulation = Simulation(cost, by_chance(rates, seed), most=most, is_module=is_module).run(2500)
    gain = gains(rates)
    best = max((1 + gain[length]) / simulation.step_seconds([length]) for length in range(most + 1))

    # the first steps spend the reserves on finding out
    chosen, seconds = simulation.chosen[500:], simulation.seconds[500:]
    found = sum(1 + gain[length] for (length,) in chosen) / sum(seconds)

    assert found >= 0.95 * best


def test_drafts_start_again_when_they_begin_to_match() -> None:
    cost = StepCost(5e-4, 5e-5, 3e-3, 4e-4, 128, 6)
    bad, good = by_chance([0.1] * LONGEST_DRAFT), by_chance([0.9] * LONGEST_DRAFT)

    simulation = Simulation(cost, lambda step, *rest: (bad if step < 1000 else good)(step, *rest), most=8).run(2000)

    assert np.mean(simulation.chosen[500:1000]) < 0.2
    assert np.mean(simulation.chosen[1500:]) > 3


def test_sequences_whose_drafts_match_get_the_rows() -> None:
    cost = StepCost(1e-3, 0.0, 4e-3, 0.0, 0, 0)
    judges = [by_chance([0.9] * LONGEST_DRAFT), by_chance([0.05] * LONGEST_DRAFT)]

    simulation = Simulation(
        cost, lambda step, place, length: judges[place](step, place, length), most=6, is_module=False, sequences=2
    ).run(1000)

    of_good, of_bad = np.mean(simulation.chosen[200:], axis=0)
    assert of_good > 3
    assert of_bad < 0.3


def test_a_sequence_is_never_given_more_than_its_limit() -> None:
    cost = StepCost(1e-5, 0.0, 4e-3, 0.0, 0, 0)
    simulation = Simulation(cost, lambda step, place, length: length, most=8, sequences=3).run(100)

    lengths = simulation.lengths.decide(simulation.known, [0, 2, 100])

    assert lengths[0] == 0
    assert lengths[1] == 2
    assert lengths[2] == 8


def test_drafts_that_were_decided_on_and_never_computed_are_forgotten() -> None:
    simulation = Simulation(StepCost(1e-3, 0.0, 4e-3, 0.0, 0, 0), lambda *_: 0, most=4, sequences=3).run(3)
    for _ in range(3):
        simulation.lengths.decide(simulation.known, [4, 4, 4])

    assert simulation.lengths.decide([Acceptance()], [0]) == (0,)
    simulation.lengths.learn([0], [0], 5e-3)


def test_nothing_is_drafted_before_a_step_was_measured_or_when_nothing_may_be() -> None:
    lengths = DraftLengths(StepTimes(0, 0), 4, is_module=True)

    assert lengths.decide([Acceptance()] * 2, [4, 4]) == (0, 0)
    lengths.learn([0, 0], [0, 0], 1.0)
    assert lengths.decide([Acceptance()] * 2, [0, 0]) == (0, 0)
    lengths.learn([], [], None)
    assert lengths.decide([], []) == ()


def test_a_step_with_prompts_in_it_teaches_what_is_accepted_but_not_how_long_decodes_take() -> None:
    lengths = DraftLengths(StepTimes(0, 0), 4, is_module=True)
    lengths.learn([0], [0], 1.0)
    before = lengths.times.cost

    lengths.learn([2], [1], None)

    assert lengths.times.cost == before
    assert lengths.common.tried[:3] == (1.0, 1.0, 0.0)
    assert lengths.common.kept[:3] == (1.0, 0.0, 0.0)


@given(drafts=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)).map(sorted)), place=st.integers(0, 3))
def test_a_rate_is_between_nothing_and_certainty_and_follows_what_was_seen_of_late(
    drafts: list[list[int]], place: int
) -> None:
    acceptance = Acceptance()
    for accepted, drafted in drafts:
        acceptance = acceptance.observe(drafted, accepted)

    good, bad = acceptance, acceptance
    for _ in range(300):
        good, bad = good.observe(4, 4), bad.observe(place + 1, place)

    assert all(0 <= rate <= 1 for rate in acceptance.rates)
    assert good.rates[place] > 0.9
    assert bad.rates[place] < 0.1


@given(drafts=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)).map(sorted)))
def test_a_sequence_hopes_for_what_others_saw_until_it_knows_better(drafts: list[list[int]]) -> None:
    common = own = Acceptance()
    for accepted, drafted in drafts:
        common = common.observe(drafted, accepted)
    for _ in range(300):
        own = own.observe(1, 0)

    new, experienced = hopes([Acceptance(), own], common)

    assert (new >= common.rates).all()
    assert (new <= 1).all()
    assert experienced[0] < 0.15
    assert (experienced[1:] == new[1:]).all()


def test_longer_drafts_than_can_be_paid_for_are_refused() -> None:
    with pytest.raises(ValueError, match="drafts of 17 tokens: choose 0 … 16"):
        DraftLengths(StepTimes(0, 0), LONGEST_DRAFT + 1, is_module=False)
