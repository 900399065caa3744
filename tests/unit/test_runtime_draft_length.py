"""Drafts are as long as pays, and when none pays they cost next to nothing: simulated on machines of many kinds."""

import itertools
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemotron_runtime.draft_length import (
    LONGEST_DRAFT,
    RESERVE_STEPS,
    SLACK,
    Acceptance,
    DraftLengths,
    best_lengths,
    hopes,
)
from nemotron_runtime.step_cost import Floats, StepCost, StepTimes

pytestmark = pytest.mark.unit

COSTS = st.builds(
    StepCost,
    row=st.sampled_from([0.0, 1e-5, 1e-3, 5e-3]),
    expert=st.sampled_from([0.0, 1e-5, 2e-4]),
    fixed=st.sampled_from([1e-4, 3e-3, 1e-2]),
    draft=st.sampled_from([0.0, 1e-4, 2e-3]),
    experts=st.sampled_from([0, 16, 128, 512]),
    chosen=st.sampled_from([1, 4, 6]),
)
RATES = st.lists(st.sampled_from([0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 1.0]), min_size=LONGEST_DRAFT, max_size=LONGEST_DRAFT)
MOST = st.sampled_from([1, 3, 8, LONGEST_DRAFT])

LEARNING_STEPS = 8.0
"""What it may cost beside the reserve to learn what steps cost at all."""

Judge = Callable[[int, int, int], int]
"""Step, sequence, tokens drafted → how many of them are right."""


class Simulation:
    """A machine of known cost that serves the same sequences for ever."""

    def __init__(self, cost: StepCost, judge: Judge, *, most: int, is_module: bool = True, sequences: int = 1) -> None:
        self.cost, self.judge, self.most, self.is_module = cost, judge, most, is_module
        self.known = [Acceptance()] * sequences
        self.lengths = DraftLengths(StepTimes(cost.experts, cost.chosen), most, is_module)
        self.chosen: list[tuple[int, ...]] = []
        self.tokens: list[int] = []
        self.seconds: list[float] = []

    def run(self, steps: int) -> "Simulation":
        for step in range(steps):
            lengths = self.lengths.decide(self.known, [self.most] * len(self.known))
            right = [min(length, self.judge(step, place, length)) for place, length in enumerate(lengths)]
            seconds = self.step_seconds(lengths)
            self.lengths.learn(lengths, right, seconds)
            self.known = [each.observe(*pair) for each, *pair in zip(self.known, lengths, right, strict=True)]
            self.chosen.append(lengths)
            self.tokens.append(len(lengths) + sum(right))
            self.seconds.append(seconds)
        return self

    def step_seconds(self, lengths: Sequence[int]) -> float:
        return self.cost.seconds(len(lengths) + sum(lengths), max(lengths) if self.is_module else 0)

    @property
    def off(self) -> float:
        """Seconds of a step without drafts."""
        return self.cost.seconds(len(self.known))

    def worst_loss(self) -> float:
        """The most that any stretch of steps took beyond 1 + SLACK of the time without drafts, in steps without."""
        per_token = (1 + SLACK) / len(self.known)
        loss = worst = 0.0
        for seconds, tokens in zip(self.seconds, self.tokens, strict=True):
            loss = max(0.0, loss + seconds / self.off - per_token * tokens)
            worst = max(worst, loss)
        return worst


def by_chance(rates: Sequence[float], seed: int = 0) -> Judge:
    """Each token of a draft is right with its place's chance, if all before it are."""
    draw = random.Random(seed)

    def judge(step: int, place: int, length: int) -> int:
        return next((depth for depth in range(length) if draw.random() >= rates[depth]), length)

    return judge


def gains(rates: Sequence[float]) -> Floats:
    """Tokens that a draft of 0, 1, 2 … tokens adds, on average."""
    return np.concatenate([[0.0], np.cumsum(np.cumprod(rates))])


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


@settings(deadline=None)
@given(cost=COSTS, rates=st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=2))
def test_looked_up_drafts_have_the_lengths_that_trying_all_of_them_finds(
    cost: StepCost, rates: list[list[float]]
) -> None:
    count, gain = len(rates), [gains(each) for each in rates]

    def rate(lengths: Sequence[int]) -> float:
        tokens = sum(gain[place][length] for place, length in enumerate(lengths))
        return float(count + tokens) / cost.seconds(count + sum(lengths))

    found = best_lengths(np.cumprod(rates, axis=1), cost, np.inf, is_module=False)

    assert rate(found) == pytest.approx(max(map(rate, itertools.product(range(4), repeat=count))))


@settings(deadline=None)
@given(cost=COSTS, rates=st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_a_modules_drafts_for_one_sequence_have_the_length_that_trying_all_of_them_finds(
    cost: StepCost, rates: list[float]
) -> None:
    gain = gains(rates)

    (found,) = best_lengths(np.cumprod([rates], axis=1), cost, np.inf, is_module=True)

    of_each = [(1 + gain[length]) / cost.seconds(1 + length, length) for length in range(6)]
    assert of_each[found] == pytest.approx(max(of_each))


@settings(deadline=None)
@given(cost=COSTS, rates=st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=2, max_size=3))
def test_a_modules_drafts_for_several_sequences_are_within_5_percent_of_what_trying_all_of_them_finds(
    cost: StepCost, rates: list[list[float]]
) -> None:
    count, gain = len(rates), [gains(each) for each in rates]

    def rate(lengths: Sequence[int]) -> float:
        tokens = sum(gain[place][length] for place, length in enumerate(lengths))
        return float(count + tokens) / cost.seconds(count + sum(lengths), max(lengths))

    found = best_lengths(np.cumprod(rates, axis=1), cost, np.inf, is_module=True)

    assert rate(found) >= 0.95 * max(map(rate, itertools.product(range(4), repeat=count)))


@given(cost=COSTS, seconds=st.floats(0, 0.1))
def test_what_cannot_be_afforded_is_not_drafted(cost: StepCost, seconds: float) -> None:
    chances = np.full((2, 4), 0.99)

    lengths = best_lengths(chances, cost, seconds, is_module=True)

    assert not sum(lengths) or cost.seconds(2 + sum(lengths), max(lengths)) <= seconds


def test_a_sequence_is_never_given_more_than_its_limit() -> None:
    cost = StepCost(1e-5, 0.0, 4e-3, 0.0, 0, 0)
    simulation = Simulation(cost, lambda step, place, length: length, most=8, sequences=3).run(100)

    lengths = simulation.lengths.decide(simulation.known, [0, 2, 100])

    assert lengths[0] == 0
    assert lengths[1] == 2
    assert lengths[2] == 8


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
