"""The drafts of one step have the lengths that trying all of them finds, or nearly, and are never too dear."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemotron_runtime.draft_length import best_lengths
from nemotron_runtime.step_cost import StepCost
from tests.builders.machine import COSTS, gains

pytestmark = pytest.mark.unit


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
