"""Decide what the next step computes: every decode, then prompt chunks beside them, within slots and pages."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace

from nemotron_runtime.request import Lease, Request
from nemotron_runtime.tails import WINDOW, next_anchor


@dataclass(frozen=True, slots=True)
class Pools:
    """What can still be lent, what only kept prefixes hold counted in."""

    slots: int
    pages: int
    spared_pages: int
    """Pages beside these that only prefixes hold which candidates want: for sequences that run already."""
    freed_pages: Callable[[Request], int]
    """At least how many pages a running request frees when it gives up its place."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a step."""

    prefill_tokens: int
    """Prompt tokens beside the decodes: how long streams may be held up."""
    page_tokens: int
    running: int
    """Sequences that run at the same time."""
    ahead: int = 0
    """Tokens beyond what is computed that a draft module writes keys and values for."""

    def pages(self, tokens: int) -> int:
        """Pages that hold this many tokens."""
        return -(-tokens // self.page_tokens)

    def reach(self, piece: "Slice") -> int:
        """The tokens that a slice's sequence needs pages for."""
        return self.with_drafts(piece.request, piece.stop) if piece.is_last else piece.stop

    def with_drafts(self, request: Request, tokens: int) -> int:
        """So many tokens, and those beyond that a draft module may write for: never more than a request may have."""
        return max(tokens, min(tokens + self.ahead, request.prompt_tokens + request.sampling.max_tokens))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A waiting request, with what a kept prefix saves it: `reused` tokens, in pages of which `shared` are shared."""

    request: Request
    reused: int = 0
    shared: int = 0


@dataclass(frozen=True, slots=True)
class Slice:
    """The next `tokens` tokens of one request, from position `start`; the last of them are its drafts."""

    request: Request
    start: int
    tokens: int
    is_last: bool
    """Whether nothing is pending after it, so that it yields a new token."""
    drafts: tuple[int, ...] = ()

    @property
    def stop(self) -> int:
        return self.start + self.tokens

    @property
    def confirmed(self) -> int:
        """How many of the tokens are no drafts."""
        return self.tokens - len(self.drafts)

    @property
    def is_decode(self) -> bool:
        """Whether it is one token and its drafts, which the budget for prompts leaves alone."""
        return self.is_last and self.confirmed == 1

    @property
    def ids(self) -> list[int]:
        return [*self.request.tokens[self.start : self.start + self.confirmed], *self.drafts]

    @property
    def lease(self) -> Lease:
        return self.request.held

    @property
    def next_anchor(self) -> int:
        """Where the slice moves its sequence's anchor."""
        return next_anchor(self.lease.anchor, self.start, self.tokens)


@dataclass(frozen=True, slots=True)
class Step:
    """Requests that lose their place, requests that get one, then what is computed; slices with few tokens first."""

    preempted: tuple[Request, ...]
    admitted: tuple[Candidate, ...]
    slices: tuple[Slice, ...]


def rank(request: Request, served: float) -> tuple[float, ...]:
    """The order in which requests are served: priority, then who had least so far, then the deadline, then arrival."""
    deadline = request.terms.deadline
    return (-request.terms.priority, served, float("inf") if deadline is None else deadline, request.id)


def line_up(waiting: Iterable[Request], served: Mapping[str, float]) -> Iterator[Request]:
    """Requests in the order of service. `served`: the tokens that each client had so far.

    To a client's next request, those of its that stand before it count as served, in full.
    """
    lines: dict[str, list[Request]] = {}
    for request in sorted(waiting, key=lambda request: rank(request, 0.0), reverse=True):
        lines.setdefault(request.terms.client, []).append(request)
    due = {client: served[client] for client in lines}
    heads = [(rank(line[-1], due[client]), client) for client, line in lines.items()]
    heapify(heads)
    while heads:
        _, client = heads[0]
        request = lines[client].pop()
        yield request
        due[client] += request.pending + request.sampling.max_tokens - request.generated
        if lines[client]:
            heapreplace(heads, (rank(lines[client][-1], due[client]), client))
        else:
            heappop(heads)


def schedule(waiting: Iterable[Candidate], running: Sequence[Request], pools: Pools, budget: Budget) -> Step:
    """The next step. `waiting` in the order of service, `running` in the order of admission.

    Pages are lent as sequences grow. When they run out, and when a request of higher priority finds no place, the
    running request that ranks last gives up its own; a sequence that is alone always fits. A candidate that does not
    fit holds back those behind it.
    """
    plan = _Plan(running, pools, budget)
    for request in sorted(running, key=_standing):
        plan.go_on(request)
    for candidate in waiting:
        if not plan.admit(candidate):
            break
    slices = sorted(plan.slices.values(), key=_order)
    return Step(tuple(plan.preempted), tuple(plan.admitted), tuple(slices))


class _Plan:
    """A step in the making."""

    def __init__(self, running: Sequence[Request], pools: Pools, budget: Budget) -> None:
        self._staying = sorted(running, key=_standing)
        self._pools, self._budget = pools, budget
        self._slots, self._pages, self._left = pools.slots, pools.pages, budget.prefill_tokens
        self._taken: dict[int, int] = {}
        self.slices: dict[int, Slice] = {}
        self.preempted: list[Request] = []
        self.admitted: list[Candidate] = []

    def go_on(self, request: Request) -> None:
        """Give a running request its slice, and the pages for it."""
        piece = None if request in self.preempted else _slice(request, request.computed, self._left)
        if piece is None:
            return
        needed = max(0, self._budget.pages(self._budget.reach(piece)) - len(request.held.pages))
        while needed > self._pages + self._pools.spared_pages:
            self._preempt(self._staying[-1])
            if request in self.preempted:
                return
        self._take(piece, needed)

    def admit(self, candidate: Candidate) -> bool:
        """Give a waiting request a place, if there is one; those of lower priority make room."""
        request = candidate.request
        needed = self._budget.pages(self._budget.with_drafts(request, len(request.tokens))) - candidate.shared
        victims = self._victims(needed, request.terms.priority)
        if victims is None:
            return False
        regained = sum(piece.tokens for victim in victims if (piece := self._prefill_of(victim)))
        piece = _slice(request, candidate.reused, self._left + regained)
        if piece is None:
            return False
        for victim in victims:
            self._preempt(victim)
        self._slots -= 1
        self.admitted.append(candidate)
        self._staying.append(request)
        self._take(piece, needed)
        return True

    def _victims(self, pages: int, priority: int) -> list[Request] | None:
        """Who of lower priority has to go so that one more fits; None where that does not suffice.

        It fits when every other may still grow by a page, or it would be taken out at once.
        """
        staying, slots, free = list(self._staying), self._slots, self._pages
        victims: list[Request] = []
        while slots < 1 or len(staying) >= self._budget.running or free < pages + len(staying):
            last = staying.pop() if staying else None
            if last is None or last.lease is None or last.terms.priority >= priority:
                return None
            victims.append(last)
            slots += 1
            free += self._pools.freed_pages(last) + self._taken.get(last.id, 0)
        return victims

    def _prefill_of(self, request: Request) -> Slice | None:
        """The part of a prompt that a request would compute."""
        piece = self.slices.get(request.id)
        return piece if piece and not piece.is_decode else None

    def _preempt(self, request: Request) -> None:
        self._staying.remove(request)
        self.preempted.append(request)
        self._slots += 1
        self._pages += self._pools.freed_pages(request) + self._taken.pop(request.id, 0)
        if piece := self._prefill_of(request):
            self._left += piece.tokens
        self.slices.pop(request.id, None)

    def _take(self, piece: Slice, pages: int) -> None:
        self._pages -= pages
        self._taken[piece.request.id] = pages
        self.slices[piece.request.id] = piece
        if not piece.is_decode:
            self._left -= piece.tokens


def _slice(request: Request, start: int, left: int) -> Slice | None:
    """What a request computes from `start`, when `left` prompt tokens fit into the step; nothing when none fit."""
    pending = len(request.tokens) - start
    if pending == 1:
        drafts = request.drafts[: WINDOW - 1]
        return Slice(request, start, 1 + len(drafts), is_last=True, drafts=drafts)
    tokens = min(pending, left, *(stop - start for stop in request.stops[-1:]))
    return Slice(request, start, tokens, is_last=tokens == pending) if tokens > 0 else None


def _standing(request: Request) -> tuple[int, int]:
    """Who keeps what it has: the higher priority, then who came first."""
    return (-request.terms.priority, request.id)


def _order(piece: Slice) -> tuple[int, float]:
    lease = piece.request.lease
    return (piece.tokens, lease.slot if lease else float("inf"))
