"""The scaling law: more at once, fewer after a whole quiet time, never on a guess."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_autoscaler import Policy, Sample, decide, demand, remember

pytestmark = pytest.mark.unit

POLICY = Policy(min=1, max=8, stabilization_seconds=60, target_occupancy=0.5)
IDLE = Sample(replicas=4, answered=4, waiting=0, slots_used=0, slots_total=64)

policies = st.builds(
    lambda low, more, window, target: Policy(low, low + more, window, target),
    st.integers(1, 20),
    st.integers(0, 20),
    st.floats(0, 600),
    st.floats(0.05, 1),
)
samples = st.builds(
    lambda replicas, missing, waiting, slots, used: Sample(
        replicas, max(0, replicas - missing), waiting, used, slots * max(0, replicas - missing)
    ),
    st.integers(0, 30),
    st.integers(0, 3),
    st.integers(0, 10_000),
    st.integers(0, 64),
    st.integers(0, 2_000),
)
histories = st.lists(st.tuples(st.floats(0, 1000), st.integers(0, 50)), max_size=20).map(lambda h: tuple(sorted(h)))
currents = st.integers(0, 60)


def quiet(wanted: int, seconds: float = 60, step: float = 2) -> tuple[tuple[float, int], ...]:
    return tuple((step * i, wanted) for i in range(int(seconds / step) + 1))


@given(current=currents, sample=st.none() | samples, history=histories, policy=policies)
def test_the_answer_is_always_within_bounds(
    current: int, sample: Sample | None, history: tuple[tuple[float, int], ...], policy: Policy
) -> None:
    assert policy.min <= decide(current, sample, history, policy).replicas <= policy.max


@given(current=currents, sample=samples, more=st.integers(1, 5000), history=histories, policy=policies)
def test_more_load_never_asks_for_fewer(
    current: int, sample: Sample, more: int, history: tuple[tuple[float, int], ...], policy: Policy
) -> None:
    busier = replace(sample, waiting=sample.waiting + more)
    assert demand(busier, policy) >= demand(sample, policy)
    assert decide(current, busier, history, policy).replicas >= decide(current, sample, history, policy).replicas


@given(current=currents, sample=st.none() | samples, history=histories, policy=policies)
def test_missing_metrics_never_shrink(
    current: int, sample: Sample | None, history: tuple[tuple[float, int], ...], policy: Policy
) -> None:
    held = min(max(current, policy.min), policy.max)
    if sample is None or not sample.is_complete:
        assert decide(current, sample, history, policy).replicas >= held


@given(current=currents, sample=samples, history=histories, policy=policies)
def test_the_load_of_those_that_answered_counts_at_once(
    current: int, sample: Sample, history: tuple[tuple[float, int], ...], policy: Policy
) -> None:
    assert decide(current, sample, history, policy).replicas >= min(demand(sample, policy), policy.max)


@given(current=currents, sample=samples, history=histories, policy=policies)
def test_fewer_is_never_less_than_any_demand_of_the_stabilization_time(
    current: int, sample: Sample, history: tuple[tuple[float, int], ...], policy: Policy
) -> None:
    decision = decide(current, sample, history, policy)
    if decision.reason == "ScaledDown":
        assert decision.replicas >= min(max(wanted for _, wanted in history), policy.max)


@pytest.mark.parametrize(
    ("sample", "replicas", "reason"),
    [
        pytest.param(Sample(4, 4, 0, 20, 64), 4, "Steady", id="the-load-fits"),
        pytest.param(Sample(4, 4, 9, 32, 64), 6, "ScaledUp", id="waiting-requests-count-as-slots"),
        pytest.param(Sample(4, 4, 1000, 64, 64), 8, "ScaledUp", id="never-beyond-the-most"),
        pytest.param(Sample(4, 2, 0, 32, 32), 4, "MetricsMissing", id="half-answered-and-content"),
        pytest.param(Sample(4, 2, 30, 32, 32), 8, "ScaledUp", id="half-answered-and-overloaded"),
        pytest.param(Sample(4, 0, 0, 0, 0), 4, "MetricsMissing", id="nobody-answered"),
        pytest.param(Sample(0, 0, 0, 0, 0), 4, "MetricsMissing", id="nobody-there"),
        pytest.param(Sample(4, 4, 5, 0, 0), 4, "MetricsMissing", id="replicas-without-slots-say-nothing"),
        pytest.param(None, 4, "MetricsMissing", id="never-asked"),
    ],
)
def test_decisions(sample: Sample | None, replicas: int, reason: str) -> None:
    decision = decide(4, sample, quiet(4), POLICY)
    assert (decision.replicas, decision.reason) == (replicas, reason)


def test_at_the_most_more_load_is_told_as_such() -> None:
    assert decide(8, Sample(8, 8, 100, 128, 128), (), POLICY).reason == "AtMax"


class TestShrinking:
    def test_a_whole_quiet_time_shrinks_to_what_was_needed_at_most(self) -> None:
        history = (*quiet(1, 30), (32.0, 3), *((t + 34.0, w) for t, w in quiet(1, 30)))
        assert decide(4, IDLE, history, POLICY).replicas == 3

    def test_a_shorter_one_does_not(self) -> None:
        assert decide(4, IDLE, quiet(1, 58), POLICY).replicas == 4

    def test_no_history_does_not(self) -> None:
        assert decide(4, IDLE, (), POLICY).replicas == 4

    def test_a_time_of_which_little_is_known_does_not(self) -> None:
        silence = ((0.0, 1), (300.0, 1))
        assert decide(4, IDLE, silence, POLICY).replicas == 4

    def test_one_scrape_that_failed_does_not_start_the_time_anew(self) -> None:
        history = tuple(entry for entry in quiet(1) if entry[0] != 30.0)
        assert decide(4, IDLE, history, POLICY).replicas == 1

    def test_a_stabilization_of_nothing_shrinks_at_once(self) -> None:
        policy = replace(POLICY, stabilization_seconds=0)
        history = remember((), 5.0, 0, policy)
        assert decide(4, IDLE, history, policy).replicas == 1


class TestRemember:
    @given(
        steps=st.lists(st.floats(0.1, 30), min_size=1, max_size=200), window=st.floats(0, 120), wanted=st.integers(0, 9)
    )
    def test_it_keeps_one_window_and_one_entry_before_it(self, steps: list[float], window: float, wanted: int) -> None:
        policy = replace(POLICY, stabilization_seconds=window)
        history: tuple[tuple[float, int], ...] = ()
        now = 0.0
        for step in steps:
            now += step
            history = remember(history, now, wanted, policy)
            assert history[-1] == (now, wanted)
            assert len([at for at, _ in history if now - at >= window]) <= 1 or window == 0

    def test_it_is_bounded_by_the_window_whatever_the_time(self) -> None:
        history: tuple[tuple[float, int], ...] = ()
        for i in range(10_000):
            history = remember(history, 2.0 * i, i % 7, POLICY)
        assert len(history) <= 32

    def test_every_demand_of_the_window_is_there(self) -> None:
        history: tuple[tuple[float, int], ...] = ()
        for i in range(100):
            history = remember(history, 2.0 * i, i, POLICY)
        assert {wanted for _, wanted in history} >= set(range(71, 100))
