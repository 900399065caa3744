"""Buckets count every observation once, whatever the bounds are."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from nemotron_runtime.histogram import Histogram

pytestmark = pytest.mark.unit

NUMBERS = st.floats(-1e6, 1e6)


@given(bounds=st.sets(st.integers(-9, 9), min_size=1).map(sorted), values=st.lists(NUMBERS))
def test_a_bucket_counts_what_is_no_larger_than_its_bound(bounds: list[int], values: list[float]) -> None:
    histogram = Histogram(bounds)

    for value in values:
        histogram.observe(value)

    seen = histogram.observed
    assert seen.buckets == {f"{bound:g}": sum(value <= bound for value in values) for bound in bounds} | {
        "+Inf": len(values)
    }
    assert seen.sum == sum(values)


def test_what_was_observed_stays_as_it_was() -> None:
    histogram = Histogram((1,))
    before = histogram.observed

    histogram.observe(0.5)

    assert before.buckets == {"1": 0, "+Inf": 0}
