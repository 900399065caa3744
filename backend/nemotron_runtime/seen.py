"""Know which tokens a growing text holds, how often and where last, having looked at each of them once."""

from array import array
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

WIDE = "q"
"""How `array` spells 64 bits with a sign."""


class Seen:
    """The first `len(seen)` tokens of a text, of which `prompt_tokens` are the prompt's.

    A token costs one entry, however long the text is. Drafts are never put in, so nothing is ever taken out: whoever
    asks gives what stands after the tokens that are known.
    """

    def __init__(self, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._tokens = 0
        self._rows: dict[int, int] = {}
        self._ids, self._counts, self._last = array(WIDE), array(WIDE), array(WIDE)

    def __len__(self) -> int:
        return self._tokens

    def extend(self, tokens: Iterable[int]) -> None:
        """Append `tokens` to the text."""
        for token in tokens:
            row = self._rows.setdefault(token, len(self._ids))
            if row == len(self._ids):
                self._ids.append(token)
                self._counts.append(0)
                self._last.append(0)
            self._counts[row] += self._tokens >= self._prompt_tokens
            self._last[row] = self._tokens
            self._tokens += 1

    def counts(self, more: Sequence[int] = ()) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Every token of the text and `more` after it, each once, with how often it stands in the output: (n), (n)."""
        ids, counts = np.array(self._ids), np.array(self._counts)
        new: dict[int, int] = {}
        for place, token in enumerate(more, self._tokens):
            row, is_output = self._rows.get(token), place >= self._prompt_tokens
            if row is None:
                new[token] = new.get(token, 0) + is_output
            else:
                counts[row] += is_output
        return np.append(ids, np.array([*new], ids.dtype)), np.append(counts, np.array([*new.values()], ids.dtype))

    def last(self, token: int, more: Sequence[int] = ()) -> int | None:
        """Where `token` stands for the last time in the text and `more` after it; None where it does not."""
        for back, other in enumerate(reversed(more), 1):
            if other == token:
                return self._tokens + len(more) - back
        row = self._rows.get(token)
        return None if row is None else self._last[row]
