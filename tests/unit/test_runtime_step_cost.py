"""The fitted step cost predicts what was measured, and is careful about what was not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_runtime.step_cost import FIT_EVERY, Floats, StepCost, StepTimes, distinct, fit

pytestmark = pytest.mark.unit

EXPERTS, CHOSEN = 128, 6
COSTS = st.builds(
    StepCost,
    row=st.sampled_from([0.0, 1e-5, 1e-3]),
    expert=st.sampled_from([0.0, 1e-5, 2e-4]),
    fixed=st.sampled_from([1e-4, 3e-3, 1e-2]),
    draft=st.sampled_from([0.0, 1e-4, 2e-3]),
    experts=st.just(EXPERTS),
    chosen=st.just(CHOSEN),
)


def times_of(cost: StepCost, shapes: list[tuple[int, int]], *, repeats: int = 1) -> StepTimes:
    """What is known after steps of these rows and passes that took what `cost` says."""
    times = StepTimes(EXPERTS, CHOSEN)
    for rows, passes in shapes * repeats:
        times.add(rows, passes, cost.seconds(rows, passes))
    return times


def test_distinct_experts_are_counted_as_if_every_row_drew_its_own() -> None:
    draw = np.random.default_rng(0)
    draws = [[draw.permutation(EXPERTS)[:CHOSEN] for _ in range(10)] for _ in range(2000)]

    seen = np.mean([len(np.unique(each)) for each in draws])

    assert distinct(10, EXPERTS, CHOSEN) == pytest.approx(seen, rel=0.01)
    assert distinct(1, EXPERTS, CHOSEN) == pytest.approx(CHOSEN)
    assert distinct(10, 0, 0) == 0


@given(cost=COSTS)
def test_a_cost_of_this_form_is_found_from_a_handful_of_shapes(cost: StepCost) -> None:
    times = times_of(cost, [(1, 0), (2, 1), (5, 4), (9, 8), (8, 0), (16, 1), (64, 0), (128, 1)])

    assert times.cost is not None
    for rows, passes in [(3, 2), (4, 0), (32, 7), (100, 0)]:
        assert times.cost.seconds(rows, passes) == pytest.approx(cost.seconds(rows, passes), rel=1e-3)


@given(cost=COSTS, rows=st.integers(1, 16), more=st.integers(2, 8))
def test_after_one_shape_a_step_is_thought_to_cost_as_much_per_row(cost: StepCost, rows: int, more: int) -> None:
    times = times_of(cost, [(rows, 0)])

    assert times.cost is not None
    assert times.cost.seconds(rows) == pytest.approx(cost.seconds(rows))
    assert times.cost.seconds(rows * more) == pytest.approx(cost.seconds(rows) * more)


@given(
    features=st.lists(st.tuples(*[st.floats(0, 100)] * 3), min_size=1, max_size=8),
    values=st.lists(st.floats(-10, 10), min_size=8, max_size=8),
)
def test_no_coefficient_is_negative_and_none_of_them_could_be_nudged_to_fit_better(
    features: list[tuple[float, ...]], values: list[float]
) -> None:
    x, y = np.array(features), np.array(values[: len(features)])
    found = np.array(fit(x, y))

    def error(coefficients: Floats) -> float:
        return float(np.square(x @ coefficients - y).sum())

    assert (found >= 0).all()
    for place in range(3):
        for nudge in (-1e-3, 1e-3):
            nudged = np.maximum(found + nudge * np.eye(3)[place], 0.0)
            assert error(found) <= error(nudged) + 1e-6 * float(y @ y) + 1e-9


def test_one_step_that_was_held_up_hardly_moves_the_prediction() -> None:
    cost = StepCost(1e-3, 0.0, 3e-3, 0.0, EXPERTS, CHOSEN)
    times = times_of(cost, [(1, 0), (4, 0)], repeats=40)

    times.add(4, 0, 100 * cost.seconds(4))
    times.add(2, 0, cost.seconds(2))

    assert times.cost is not None
    assert times.cost.seconds(4) == pytest.approx(cost.seconds(4), rel=0.05)


def test_a_machine_that_became_slower_is_noticed() -> None:
    fast, slow = (StepCost(row, 0.0, 3 * row, 0.0, EXPERTS, CHOSEN) for row in (1e-3, 3e-3))
    times = times_of(fast, [(1, 0), (4, 0)], repeats=100)

    for rows, passes in [(1, 0), (4, 0)] * 3 * FIT_EVERY:
        times.add(rows, passes, slow.seconds(rows, passes))

    assert times.cost is not None
    assert times.cost.seconds(4) == pytest.approx(slow.seconds(4), rel=0.02)


def test_nothing_is_predicted_before_a_step_was_measured() -> None:
    assert StepTimes(EXPERTS, CHOSEN).cost is None
