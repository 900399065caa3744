"""Durations as users write them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api import duration

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1h0m1s", 3601), ("0s", 0), ("007s", 7)],
)
def test_reading(text: str, expected: int) -> None:
    assert duration.seconds(text) == expected


@pytest.mark.parametrize("text", ["", "10", "10 m", "1m1h", "-1s", "1.5h", "1d", "1h1h", "s", "1m\n", "１s"])
def test_what_is_no_duration_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 90s, 10m or 1h30m"):
        duration.seconds(text)


@given(st.integers(0, 999 * 3600))
def test_what_is_spelled_is_read_back(total: int) -> None:
    text = duration.spell(total)
    assert duration.seconds(text) == total
    assert re.fullmatch(duration.PATTERN, text)


@pytest.mark.parametrize("text", ["99999999999h", "999999999999999s"])
def test_no_duration_overflows_what_kubernetes_counts_in(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        duration.seconds(text)


def test_the_longest_that_can_be_written_fits_an_int32() -> None:
    assert duration.seconds("999h99999m9999999s") < 2**31
