"""Guess what streams go on with, so that one step can confirm several tokens."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from nemotron_runtime.draft_length import Acceptance
from nemotron_runtime.drafts import NgramIndex
from nemotron_runtime.executor import Executor
from nemotron_runtime.governor import Phase
from nemotron_runtime.outcome import Outcome
from nemotron_runtime.request import Request
from nemotron_runtime.sampler import choose_finite
from nemotron_runtime.scheduler import Slice
from nemotron_runtime.tails import WINDOW

MOST_DRAFTS = WINDOW - 1

LOOKED_BACK = 4096
"""Tokens of a prompt that drafts are looked up in: all streams wait while they are indexed, and each takes memory."""

Draft = tuple[int, ...]


class Lengths(Protocol):
    """Who decides how much to draft: see `DraftLengths`."""

    def decide(self, known: Sequence[Acceptance], limits: Sequence[int]) -> Sequence[int]: ...

    def learn(self, lengths: Sequence[int], accepted: Sequence[int], seconds: float | None) -> None: ...


class Governor(Protocol):
    """Who decides whether to draft: see `nemotron_runtime.governor`."""

    @property
    def phase(self) -> Phase: ...

    def note(self, streams: int, drafted: int, seconds: float, preparing: float) -> None: ...


class Drafter(Protocol):
    """Something that guesses; a wrong guess costs time and changes nothing else."""

    def limits(self, streams: Sequence[Request], most: Sequence[int]) -> list[int]:
        """How many tokens it could propose for each stream, at most as many as `most` says."""

    def draft(self, pieces: Sequence[Slice], lengths: Sequence[int]) -> list[Draft]:
        """`lengths` tokens for each of the streams that `limits` was asked about last.

        `pieces` is the step just computed; their requests have the tokens that followed.
        """

    def forget(self, requests: Sequence[Request]) -> None:
        """Drop what is known of all requests but these."""


class LookUp:
    """Drafts from what followed the same tokens earlier in the same text."""

    def __init__(self) -> None:
        self._indices: dict[int, tuple[int, NgramIndex]] = {}
        """By request: the token that its index begins with, and the index."""
        self._found: list[Draft] = []

    def limits(self, streams: Sequence[Request], most: Sequence[int]) -> list[int]:
        self._found = [self._index(request).propose(limit) for request, limit in zip(streams, most, strict=True)]
        return [len(found) for found in self._found]

    def draft(self, pieces: Sequence[Slice], lengths: Sequence[int]) -> list[Draft]:
        return [found[:length] for found, length in zip(self._found, lengths, strict=True)]

    def forget(self, requests: Sequence[Request]) -> None:
        kept = {request.id for request in requests}
        self._indices = {number: each for number, each in self._indices.items() if number in kept}

    def _index(self, request: Request) -> NgramIndex:
        if request.id not in self._indices:
            self._indices[request.id] = max(0, len(request.tokens) - LOOKED_BACK), NgramIndex()
        start, index = self._indices[request.id]
        index.extend(request.tokens[start + len(index) :])
        return index


class Module:
    """Drafts from the model's own multi-token-prediction module."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._streams: Sequence[Request] = ()

    def limits(self, streams: Sequence[Request], most: Sequence[int]) -> list[int]:
        self._streams = streams
        return list(most)

    def draft(self, pieces: Sequence[Slice], lengths: Sequence[int]) -> list[Draft]:
        wanted = {request.id: length for request, length in zip(self._streams, lengths, strict=True)}
        drafts = self._executor.draft(pieces, [wanted.get(piece.request.id, 0) for piece in pieces], choose_drafts)
        found = {piece.request.id: draft for piece, draft in zip(pieces, drafts, strict=True)}
        return [found[request.id] for request in self._streams]

    def forget(self, requests: Sequence[Request]) -> None:
        """What it knows lies in the requests' pages."""


def choose_drafts(logits: Tensor, requests: Sequence[Request], drafts: Sequence[Sequence[int]]) -> list[int]:
    """As the model itself would choose from these logits, with the same noise."""
    choices = [request.choice(draft) for request, draft in zip(requests, drafts, strict=True)]
    return [chosen.token if chosen else 0 for chosen in choose_finite(logits, choices)]


def _alike(lengths: Sequence[int], limits: Sequence[int]) -> list[int]:
    """One length for all that draft, near what each should have: sequences with as many tokens share a window."""
    drafting = [length for length in lengths if length]
    if not drafting:
        return list(lengths)
    common = round(sum(drafting) / len(drafting))
    return [
        common if 2 * length >= common and limit >= common else 0 for length, limit in zip(lengths, limits, strict=True)
    ]


class Speculation:
    """Drafts for every stream that decodes, as many as pay, and none where the governor says that they do not."""

    def __init__(
        self,
        drafter: Drafter,
        lengths: Lengths,
        governor: Governor,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._drafter = drafter
        self._lengths = lengths
        self._governor = governor
        self._clock = clock
        self._accepted: dict[int, Acceptance] = {}
        self._drafting_seconds = 0.0

    @property
    def remembered(self) -> frozenset[int]:
        """Ids of the requests of which something is known."""
        return frozenset(self._accepted)

    @property
    def is_resting(self) -> bool:
        """Whether drafts are given up for now, and nobody is asked for any."""
        return self._governor.phase is Phase.RESTING

    def follow(self, found: Sequence[Outcome], seconds: float, running: Sequence[Request]) -> None:
        """Learn from a step that took `seconds`, and put drafts for the next one into the requests that go on."""
        if self.is_resting:
            # Every step comes here: nothing is looked at that need not be. Should the rest end now, the next step is
            # the first to keep what a module goes on from.
            if all(each.piece.tokens == 1 and each.accepted for each in found):
                self._governor.note(len(found), 0, seconds, 0.0)
            for each in found:
                if each.piece.drafts:
                    each.request.drafts = ()
            return
        began = self._clock()
        self._learn(found, seconds)
        streams = [each.request for each in found if each.accepted and each.request.lease]
        pieces = [each.piece for each in found]
        drafts = [()] * len(streams) if self.is_resting else self._drafts(pieces, streams)
        for request, draft in zip(streams, drafts, strict=True):
            request.drafts = draft
        self._forget(running)
        self._drafting_seconds = self._clock() - began

    def _learn(self, found: Sequence[Outcome], seconds: float) -> None:
        decodes = [each for each in found if each.piece.is_decode and each.accepted]
        if not decodes:
            return
        # What a step that also computed prompts takes says nothing of decodes.
        alone = len(decodes) == len(found)
        accepted = [len(each.accepted) - 1 for each in decodes]
        self._judge([each.piece for each in decodes], accepted, seconds + self._drafting_seconds if alone else None)
        if alone:
            self._governor.note(len(decodes), sum(accepted), seconds, self._drafting_seconds)

    def _judge(self, decodes: Sequence[Slice], accepted: Sequence[int], seconds: float | None) -> None:
        """Note what became of each draft."""
        lengths = [len(piece.drafts) for piece in decodes]
        for piece, drafted, right in zip(decodes, lengths, accepted, strict=True):
            if drafted and (known := self._accepted.get(piece.request.id)):
                self._accepted[piece.request.id] = known.observe(drafted, right)
        self._lengths.learn(lengths, accepted, seconds)

    def _drafts(self, pieces: Sequence[Slice], streams: Sequence[Request]) -> list[Draft]:
        """What each stream may go on with; while steps are measured, who drafts keeps up, and that is all."""
        most = [min(MOST_DRAFTS, request.sampling.max_tokens - request.generated - 1) for request in streams]
        limits = self._drafter.limits(streams, most)
        lengths = [0] * len(streams)
        if streams and self._governor.phase is Phase.DRAFTING:
            known = [self._accepted.setdefault(request.id, Acceptance()) for request in streams]
            lengths = _alike(self._lengths.decide(known, limits), limits)
        return self._drafter.draft(pieces, lengths)

    def _forget(self, running: Sequence[Request]) -> None:
        """Drop what is known of requests that are gone."""
        if len(self._accepted) > len(running):
            kept = {request.id for request in running}
            self._accepted = {number: each for number, each in self._accepted.items() if number in kept}
            self._drafter.forget(running)
