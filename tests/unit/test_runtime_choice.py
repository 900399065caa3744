"""Tokens with drafts after them read like the list they stand for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_runtime.choice import Followed

pytestmark = pytest.mark.unit

TOKENS = st.lists(st.integers(0, 9), max_size=6)
PLACES = st.none() | st.integers(-14, 14)


@given(tokens=TOKENS, drafts=TOKENS, start=PLACES, stop=PLACES, step=st.sampled_from([None, 1, 2, -1]))
def test_tokens_followed_by_drafts_read_like_a_list(
    tokens: list[int], drafts: list[int], start: int | None, stop: int | None, step: int | None
) -> None:
    both, followed = tokens + drafts, Followed(tokens, tuple(drafts))

    assert list(followed) == both
    assert len(followed) == len(both)
    assert followed[start:stop:step] == both[start:stop:step]
    assert [followed[place] for place in range(-len(both), len(both))] == both * 2
    with pytest.raises(IndexError):
        followed[len(both)]
