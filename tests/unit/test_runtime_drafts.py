"""Prompt-lookup drafts are what the plain definition says, however the sequence grew."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_runtime.drafts import NgramIndex, lookup

pytestmark = pytest.mark.unit

# Few different tokens make many repetitions; two large ones would be confused if a token lost its upper bits.
TOKENS = st.lists(st.sampled_from([0, 1, 2, 131071, 131071 + (1 << 16)]), max_size=40)
LONGEST = st.integers(2, 6)
MOST = st.integers(0, 12)


def naive_lookup(tokens: Sequence[int], longest: int, most: int) -> tuple[int, ...]:
    """The definition, read aloud: the longest run first, its latest earlier occurrence first, one token at a time."""
    for length in range(longest, 1, -1):
        suffix = list(tokens[len(tokens) - length :])
        for end in range(len(tokens) - 1, length - 1, -1):
            if length <= len(tokens) and list(tokens[end - length : end]) == suffix:
                text = list(tokens)
                for place in range(end, end + most):
                    text.append(text[place])
                return tuple(text[len(tokens) :])
    return ()


@given(tokens=TOKENS, longest=LONGEST, most=MOST)
def test_a_draft_continues_the_latest_earlier_occurrence_of_the_longest_run(
    tokens: list[int], longest: int, most: int
) -> None:
    assert lookup(tokens, longest, most) == naive_lookup(tokens, longest, most)


@given(pieces=st.lists(TOKENS, max_size=5), longest=LONGEST, most=MOST)
def test_an_index_that_grew_in_pieces_proposes_the_same_at_every_length(
    pieces: list[list[int]], longest: int, most: int
) -> None:
    index, tokens = NgramIndex(longest=longest), []
    for piece in pieces:
        index.extend(piece)
        tokens += piece

        assert len(index) == len(tokens)
        assert index.propose(most) == naive_lookup(tokens, longest, most)


@pytest.mark.parametrize(
    ("tokens", "most", "draft"),
    [
        pytest.param([], 4, (), id="nothing-follows-nothing"),
        pytest.param([7], 4, (), id="one-token-is-no-run"),
        pytest.param([7, 8, 9, 7], 4, (), id="one-recurring-token-is-no-run"),
        pytest.param([7, 8, 9, 7, 8], 2, (9, 7), id="two-recurring-tokens-are"),
        pytest.param([7, 8, 1, 7, 8, 2, 7, 8], 1, (2,), id="the-latest-occurrence-wins"),
        pytest.param([6, 7, 8, 1, 5, 7, 8, 2, 6, 7, 8], 1, (1,), id="a-longer-run-wins-over-a-later-one"),
        pytest.param([5, 5, 5], 4, (5, 5, 5, 5), id="a-loop-goes-on"),
        pytest.param([1, 2, 1, 2, 1], 5, (2, 1, 2, 1, 2), id="a-longer-loop-goes-on-too"),
        pytest.param([7, 8, 9, 7, 8], 0, (), id="none-were-asked-for"),
    ],
)
def test_what_is_drafted(tokens: list[int], most: int, draft: tuple[int, ...]) -> None:
    assert lookup(tokens, 4, most) == draft


def test_a_new_token_is_looked_up_once_per_length_however_long_the_sequence_is() -> None:
    class Counting(dict[bytes, int]):
        calls = 0

        def __contains__(self, run: object) -> bool:
            self.calls += 1
            return super().__contains__(run)

    for length in (10, 10_000):
        index = NgramIndex(range(length), longest=4)
        index._ends = ends = Counting(index._ends)

        assert index.propose(4) == ()

        assert ends.calls == 3
        assert len(ends) == sum(length - run for run in (2, 3, 4))
