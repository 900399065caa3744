"""Draft tokens by looking up what followed the last few tokens earlier in the same sequence."""

from array import array
from collections.abc import Iterable, Sequence

SHORTEST = 2
"""Tokens that must match: a single one recurs everywhere, and what followed it says little."""

LONGEST = 4
"""Tokens that are tried first: a longer match is rarely continued otherwise than one of four."""

TOKEN = "I"
"""How `array` spells 32 bits without sign: every vocabulary fits."""


class NgramIndex:
    """Where each run of SHORTEST to `longest` tokens of one growing sequence ended last.

    A new token costs one entry per length, a proposal one look-up per length, however long the sequence is.
    """

    def __init__(self, tokens: Iterable[int] = (), *, longest: int = LONGEST) -> None:
        self._lengths = range(longest, SHORTEST - 1, -1)
        self._tokens = array(TOKEN)
        self._ends: dict[bytes, int] = {}
        """The tokens before each end are the key; those of different lengths cannot be equal."""
        self.extend(tokens)

    def __len__(self) -> int:
        """Tokens of the sequence."""
        return len(self._tokens)

    def extend(self, tokens: Iterable[int]) -> None:
        """Append `tokens` to the sequence."""
        for token in tokens:
            # A run is entered when something follows it: the one at the very end is what proposals look for.
            end = len(self._tokens)
            self._ends.update((run, end) for run in self._last_runs())
            self._tokens.append(token)

    def propose(self, most: int) -> tuple[int, ...]:
        """At most `most` tokens that may come next; none when the last tokens are new.

        They are what followed the latest earlier occurrence of the longest run that the sequence ends with. Where that
        text reaches the end of the sequence it goes on with the proposal itself, so that a loop is proposed in full.
        """
        found = (self._ends[run] for run in self._last_runs() if run in self._ends)
        end = next(found, None)
        if end is None or most < 1:
            return ()
        repeated = self._tokens[end : end + most]
        return tuple(repeated[place % len(repeated)] for place in range(most))

    def _last_runs(self) -> list[bytes]:
        """The runs that the sequence ends with, longest first."""
        have = len(self._tokens)
        return [self._tokens[have - length :].tobytes() for length in self._lengths if length <= have]


def lookup(tokens: Sequence[int], longest: int, most: int) -> tuple[int, ...]:
    """What an `NgramIndex` of `tokens` proposes."""
    return NgramIndex(tokens, longest=longest).propose(most)
