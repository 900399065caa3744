"""Say which tokens may follow an answer that a guide holds to its form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nemotron_runtime.guide_check import wrong
from nemotron_runtime.tails import WINDOW

Words = NDArray[np.int32]
"""A bit for each token of the vocabulary, 32 to a word, the lowest first."""

RECENT: Final = 2 * WINDOW
"""Answers that are asked about one after the other differ in drafts alone, and so in their last tokens."""


class GuideFailed(Exception):
    """The library gave up; its text says why."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The model's own end-of-text tokens."""

    words: Words
    ignored: bool = False
    """Whether none of them may be chosen: a request that ignores them goes on as long as its guide lets it."""


class Grammar:
    """What one request's guide allows. A function of tokens alone: what it keeps saves computing the same again.

    It begins with the answer or, where the prompt leaves thoughts open, after the `end_id` that ends them; thoughts
    are free, but may not end the text. Of the two tokens of thinking either is None where the model does not think.
    """

    def __init__(
        self, new: Callable[[], Any], ends: Ends, prompt: Sequence[int], start_id: int | None, end_id: int | None
    ) -> None:
        """`new` gives a matcher at its start."""
        self._new = new
        self._matcher = new()
        self._ends = ends
        self._end_id = end_id
        self._begin: int | None = None if _thinks(prompt, start_id, end_id) else len(prompt)
        self._thinks = self._begin is None
        self._unsearched = len(prompt)
        self._followed: list[int] = []
        """The tokens that the matcher has seen."""
        self._masks: dict[tuple[int, ...], Words] = {}
        """The latest few, by how many tokens and which ones stand before: who judges drafts asks as who made them."""

    def allowed(self, tokens: Sequence[int]) -> Words | None:
        """The tokens that may follow `tokens`, prompt and answer; None where those do not follow the guide themselves.

        Raises GuideFailed.
        """
        if not self._is_begun(tokens):
            return ~self._ends.words
        return self._mask() if self._follow(tokens) else None

    def is_complete(self, tokens: Sequence[int]) -> bool:
        """Whether nothing can follow but the end."""
        if not self._is_begun(tokens) or not self._follow(tokens) or not self._matcher.is_accepting():
            return False
        if self._matcher.is_stopped():
            return True
        try:
            return not (self._mask() & ~self._ends.words).any()
        except GuideFailed:
            return False

    def permitted(self, tokens: Sequence[int], drafts: tuple[int, ...]) -> tuple[int, ...]:
        """As many of the drafts after `tokens` as follow the guide; all of them while thoughts are free."""
        if not self._is_begun(tokens):
            return drafts
        return drafts[: self._matcher.validate_tokens(list(drafts))] if self._follow(tokens) else ()

    def first_wrong(self, tokens: Sequence[int]) -> int | None:
        """Where the first of `tokens` stands that does not follow the guide."""
        if not self._is_begun(tokens) or self._follow(tokens):
            return None
        return (self._begin or 0) + len(self._followed)

    def _is_begun(self, tokens: Sequence[int]) -> bool:
        if not self._thinks:
            return True
        begin = self._begin
        if begin is None or len(tokens) < begin or tokens[begin - 1] != self._end_id:
            self._begin = self._search(tokens)
        return self._begin is not None

    def _search(self, tokens: Sequence[int]) -> int | None:
        """Where the answer begins, after the end of its thoughts."""
        first = self._unsearched
        self._unsearched = max(first, len(tokens) - RECENT)
        new = tokens[first:]
        return first + new.index(self._end_id) + 1 if self._end_id in new else None

    def _follow(self, tokens: Sequence[int]) -> bool:
        """Take the matcher to the end of `tokens`; false where those do not follow the guide."""
        begin = self._begin or 0
        if self._matcher.is_error():
            self._matcher, self._followed, self._masks = self._new(), [], {}
        floor = max(0, min(len(self._followed), len(tokens) - begin) - RECENT)
        recent = tokens[begin + floor :]
        pairs = zip(self._followed[floor:], recent, strict=False)
        alike = floor + sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if alike < len(self._followed):
            self._matcher.rollback(len(self._followed) - alike)
            del self._followed[alike:]
        new = list(recent[alike - floor :])
        taken = self._matcher.try_consume_tokens(new) if new else 0
        self._followed += new[:taken]
        return taken == len(new)

    def _mask(self) -> Words:
        """What may follow the tokens that the matcher has seen."""
        before = len(self._followed), *self._followed[-RECENT:]
        if before not in self._masks:
            words = np.zeros_like(self._ends.words)
            self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)
            if error := wrong(self._matcher):
                raise GuideFailed(error)
            if len(self._masks) == RECENT:
                del self._masks[next(iter(self._masks))]
            self._masks[before] = words & ~self._ends.words if self._ends.ignored else words
        return self._masks[before]


def _thinks(prompt: Sequence[int], start_id: int | None, end_id: int | None) -> bool:
    """Whether the prompt leaves thoughts open."""
    newest = next((token for token in reversed(prompt) if token in (start_id, end_id)), None)
    return newest is not None and newest == start_id and end_id is not None
