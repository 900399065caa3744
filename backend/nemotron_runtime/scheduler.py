"""Decide what the next step computes: every decode, then prompt chunks beside them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nemotron_runtime.request import Request


@dataclass(frozen=True, slots=True)
class Free:
    """What the two pools can still lend."""

    slots: int
    pages: int


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a step."""

    prefill_tokens: int
    """Prompt tokens beside the decodes: how long streams may be held up."""
    page_tokens: int

    def pages(self, request: Request) -> int:
        """Pages a request needs for every token it may have, so that a running one never waits or is evicted."""
        return -(-request.most_tokens // self.page_tokens)


@dataclass(frozen=True, slots=True)
class Slice:
    """The next `tokens` tokens of one request, from position `start`."""

    request: Request
    start: int
    tokens: int
    is_last: bool
    """Whether nothing is pending after it, so that it yields a new token."""


@dataclass(frozen=True, slots=True)
class Step:
    """Requests to admit, then slices to compute; single tokens come first."""

    admitted: tuple[Request, ...]
    slices: tuple[Slice, ...]


def schedule(waiting: Iterable[Request], running: Sequence[Request], free: Free, budget: Budget) -> Step:
    """The next step. First come, first served: a request that does not fit holds back those behind it."""
    decodes = [request for request in running if request.pending == 1]
    slices = [_slice(request, 1) for request in decodes]
    left = budget.prefill_tokens
    for request in running:
        if request.pending > 1 and left > 0:
            slices.append(_slice(request, min(request.pending, left)))
            left -= slices[-1].tokens

    admitted = []
    slots, pages = free.slots, free.pages
    for request in waiting:
        if left < 1 or slots < 1 or pages < budget.pages(request):
            break
        admitted.append(request)
        slots, pages = slots - 1, pages - budget.pages(request)
        slices.append(_slice(request, min(request.pending, left)))
        left -= slices[-1].tokens
    return Step(tuple(admitted), tuple(sorted(slices, key=lambda piece: piece.tokens > 1)))


def _slice(request: Request, tokens: int) -> Slice:
    return Slice(request, request.computed, tokens, is_last=tokens == request.pending)
