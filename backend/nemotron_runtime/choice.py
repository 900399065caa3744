"""Describe one token to be chosen, and the token chosen."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import overload

import numpy as np
from numpy.typing import NDArray

from nemotron_runtime.grammar import Grammar
from nemotron_runtime.seen import Seen
from nemotron_runtime.types import SamplingParams, TokenLogprobs


class Followed(Sequence[int]):
    """Tokens and a few drafts after them, without a copy: a text may be long, and a step has a row for each draft."""

    def __init__(self, tokens: Sequence[int], drafts: Sequence[int]) -> None:
        self._tokens = tokens
        self._drafts = drafts

    def __len__(self) -> int:
        return len(self._tokens) + len(self._drafts)

    def __iter__(self) -> Iterator[int]:
        return chain(self._tokens, self._drafts)

    @overload
    def __getitem__(self, place: int) -> int: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[int]: ...

    def __getitem__(self, place: int | slice) -> int | Sequence[int]:
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                return [*self._tokens, *self._drafts][place]
            have = len(self._tokens)
            return [*self._tokens[start:stop], *self._drafts[max(0, start - have) : max(0, stop - have)]]
        before = range(len(self))[place]
        have = len(self._tokens)
        return self._tokens[before] if before < have else self._drafts[before - have]


@dataclass(frozen=True, slots=True)
class Choice:
    """The next token of one sequence: `tokens` is all that stands before it, `prompt_tokens` of them the prompt's."""

    params: SamplingParams
    tokens: Sequence[int]
    prompt_tokens: int
    seen: Seen | None = None
    """What is known already of the first of them; all others are looked at."""
    grammar: Grammar | None = None
    """What holds the answer to its form."""

    @property
    def position(self) -> int:
        """Of the token to be chosen, in its sequence."""
        return len(self.tokens)

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Every token there is, each once, with how often it stands in the output: (n), (n)."""
        seen = self._seen
        return seen.counts(self.tokens[len(seen) :])

    def last(self, token: int) -> int | None:
        """Where a token stands for the last time, if it does."""
        seen = self._seen
        return seen.last(token, self.tokens[len(seen) :])

    @property
    def _seen(self) -> Seen:
        return self.seen or Seen(self.prompt_tokens)

    @property
    def is_greedy(self) -> bool:
        return self.params.temperature == 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """The token; with its log-probabilities where the parameters ask for them."""

    token: int
    logprobs: TokenLogprobs | None = None
    failure: str | None = None
    """Why there was nothing to choose; then the token is none."""
