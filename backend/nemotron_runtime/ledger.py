"""Keep the books: who waits, who runs, what they hold, and how far they are."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from nemotron_runtime.histogram import NO_STEPS, Observed
from nemotron_runtime.holdings import Holdings
from nemotron_runtime.moves import ClearTail, Move, Park, Resume
from nemotron_runtime.prefix_cache import WORTH_A_STATE, Entry, Hit, PrefixCache, common_tokens, extend
from nemotron_runtime.request import Parked, Request
from nemotron_runtime.scheduler import Budget, Candidate, Pools, Slice, Step, line_up, schedule
from nemotron_runtime.tails import BLOCK
from nemotron_runtime.types import EngineStats

LOOKED_AT = 4
"""Waiting requests considered per step: more are hardly ever admitted at once."""

CLIENTS_REMEMBERED = 1024
"""Clients that are away but not forgotten: one that comes back before so many others gets no more than its share."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What a waiting request can go on from."""

    hit: Hit | None = None
    awaited: Request | None = None
    """A running request that is about to compute much more of the same prompt: it is worth waiting for."""
    junction: int = 0
    """Tokens after which a state is worth keeping, by the one awaited or else by the request itself; 0 for none."""


class Ledger:
    """Every request is waiting without a lease, running with one, or not in the books. Not safe for threads."""

    def __init__(self, slots: int, pages: int, budget: Budget, cache: PrefixCache, *, by_seed: bool = False) -> None:
        """`by_seed`: states depend on a request's seed, so that none with another one may go on from them."""
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self._budget = budget
        self._by_seed = by_seed
        self.holdings = Holdings(slots, pages, budget.page_tokens, cache)
        self._served: dict[str, float] = {}
        self._steps = self._prompt_tokens = self._generated_tokens = 0
        self._hit_tokens = self._drafted = self._accepted = self._preemptions = 0

    def add(self, request: Request) -> None:
        """Queue a request. A client that was away gets no credit for the time."""
        present = {each.terms.client for each in self.all()}
        least = min((self._served[client] for client in present), default=0.0)
        self._served[request.terms.client] = max(self._served.pop(request.terms.client, 0.0), least)
        self._forget_clients(present | {request.terms.client})
        extend(request.chain, request.tokens, self._salt(request))
        self.waiting.append(request)

    def next_step(self) -> tuple[Step, list[Move]]:
        """What to compute next, and what to move in memory before; the requests it admits run from now on."""
        hits, step = self._admissible(self._candidates())
        moves: list[Move] = []
        for request in step.preempted:
            moves += self._preempt(request)
        spared = {hit.entry for each in step.admitted if (hit := hits[each.request])}
        for candidate in step.admitted:
            moves += self._admit(candidate.request, hits[candidate.request], spared)
        for piece in step.slices:
            moves += self.holdings.grow(piece.lease, self._budget.reach(piece), spared)
        self._steps += bool(step.slices)
        return step, moves

    def advance(self, piece: Slice, tokens: Sequence[int], *, is_torn: bool = False) -> list[Move]:
        """Note that a slice was computed, and the tokens it gave; drafts among them were right.

        Some logits of one that `is_torn`, which has drafts, were no numbers. Without a token it is computed again, and
        alone: a draft that breaks can break what stands before it, as zero times no number is none.
        Returns the moves that keep the state it ended with, where one is to be kept, or empty it of what broke.
        """
        request = piece.request
        right = max(0, len(tokens) - 1)
        lease = piece.lease
        lease.anchor, lease.written = piece.next_anchor, max(lease.written, piece.stop)
        if is_torn and not tokens:
            self._drafted += len(piece.drafts)
            request.drafts = ()
            return [ClearTail(lease.slot, tuple(lease.pages), piece.start, piece.stop)]
        self._prompt_tokens += max(0, min(piece.stop, request.prompt_tokens) - piece.start)
        self._drafted += len(piece.drafts)
        self._accepted += right
        self._generated_tokens += len(tokens)
        self._served[request.terms.client] += piece.confirmed + right
        request.computed = piece.start + piece.confirmed + right
        request.tokens += tokens
        if is_torn:
            return [ClearTail(lease.slot, tuple(lease.pages), request.computed, piece.stop)]
        if request.stops[-1:] == [request.computed]:
            request.stops.pop()
            if piece.is_last and not tokens:
                # Its logits were no numbers, so its state hardly is one: whoever went on from it would break, too.
                return []
            hashes = tuple(request.chain[: request.computed // BLOCK + 1])
            return self.holdings.keep(lease, request.tokens[: request.computed], hashes)
        return []

    def finish(self, request: Request) -> None:
        """Strike out a request that came to its end; what it knows is kept for a while."""
        self.running.remove(request)
        lease, request.lease = request.held, None
        extend(request.chain, request.tokens[: request.computed], self._salt(request))
        hashes = tuple(request.chain[: request.computed // BLOCK + 1])
        self.holdings.donate(lease, request.tokens[: request.computed], hashes)

    def release(self, requests: Iterable[Request]) -> None:
        """Strike requests out, wherever they are, and take back what they hold."""
        for request in requests:
            if request.lease is None:
                self.waiting.remove(request)
            else:
                self.running.remove(request)
                self.holdings.end(request.lease)
                request.lease = None

    def all(self) -> tuple[Request, ...]:
        return (*self.running, *self.waiting)

    def _forget_clients(self, present: Collection[str]) -> None:
        """Of the clients that are away, remember those that came last."""
        if len(self._served) > 2 * CLIENTS_REMEMBERED:
            away = [client for client in self._served if client not in present]
            for client in away[:-CLIENTS_REMEMBERED]:
                del self._served[client]

    def _salt(self, request: Request) -> str:
        """What requests have in common that may share prefixes."""
        return f"{request.sampling.seed} {request.terms.salt}" if self._by_seed else request.terms.salt

    def _admissible(self, hits: dict[Request, Hit | None]) -> tuple[dict[Request, Hit | None], Step]:
        """The next step, and those of the candidates it is about.

        Prefixes that candidates want are spared. Where that leaves no room for any of them although a place is free,
        only the first one's is, and then none.
        """
        step = self._schedule(hits)
        for fewer in (dict(list(hits.items())[:1]), dict.fromkeys(list(hits)[:1])):
            if step.admitted or not hits or len(self.running) >= self._budget.running:
                break
            hits, step = fewer, self._schedule(fewer)
        return hits, step

    def _schedule(self, hits: dict[Request, Hit | None]) -> Step:
        spared = {hit.entry for hit in hits.values() if hit}
        pages, wanted = self.holdings.free_pages(spared)
        pools = Pools(
            slots=self.holdings.free_slots(spared),
            pages=pages,
            spared_pages=wanted,
            freed_pages=lambda request: self.holdings.pages_freed_by(request.held, spared),
        )
        return schedule([self._candidate(*each) for each in hits.items()], self.running, pools, self._budget)

    def _candidates(self) -> dict[Request, Hit | None]:
        """Who may be admitted next, in order, with what is kept for them; states they share with others will be."""
        found: dict[Request, Hit | None] = {}
        if not self._may_admit():
            return found
        for request in line_up(self.waiting, self._served):
            if len(found) == LOOKED_AT:
                break
            prospect = self._look_up(request)
            if prospect.junction:
                _stop_at(prospect.awaited or request, prospect.junction)
            if not prospect.awaited:
                found[request] = prospect.hit
        return found

    def _may_admit(self) -> bool:
        """Whether looking for candidates can be of any use: it takes time for long prompts, and this is every step."""
        if len(self.running) < self._budget.running:
            return bool(self.waiting)
        lowest = min(request.terms.priority for request in self.running)
        return any(request.terms.priority > lowest for request in self.waiting)

    def _look_up(self, request: Request) -> Prospect:
        """What is kept for a request, or will be soon."""
        # Nobody kept what the model thought of a prefix: whoever wants to know has it computed again.
        if request.parked is not None or request.prompt_logprobs is not None:
            return Prospect()
        # What a draft module knows of a token goes by the one after it, which may be another one here.
        found = self.holdings.cache.find(request.tokens, request.chain, short=int(self._budget.ahead > 0))
        known = found.hit.tokens if found.hit else 0
        for other in self.running:
            if other.backlog:
                common = common_tokens(other.tokens, request.tokens, (other.chain, request.chain))
                if common >= known + WORTH_A_STATE and common >= other.computed:
                    return Prospect(found.hit, other, common if common < other.prompt_tokens else 0)
        return Prospect(found.hit, None, found.junction)

    def _candidate(self, request: Request, hit: Hit | None) -> Candidate:
        if request.parked is not None:
            return Candidate(request, request.computed)
        reused = hit.tokens if hit else 0
        return Candidate(request, reused, reused // self._budget.page_tokens)

    def _admit(self, request: Request, hit: Hit | None, spared: Iterable[Entry]) -> list[Move]:
        lease, moves = self.holdings.lend(hit, set(spared))
        self.waiting.remove(request)
        self.running.append(request)
        if parked := request.parked:
            lease.anchor, lease.written = parked.anchor, parked.written
            moves = [*self.holdings.grow(lease, request.computed, set(spared)), Resume(request)]
        elif hit:
            request.computed = hit.tokens
            self._hit_tokens += min(hit.tokens, request.prompt_tokens)
        request.lease = lease
        request.stops = [stop for stop in request.stops if stop > request.computed]
        return moves

    def _preempt(self, request: Request) -> list[Move]:
        """Send a running request back to those who wait; it goes on later where it was."""
        self._preemptions += 1
        self.running.remove(request)
        self.waiting.append(request)
        lease, request.lease, request.drafts = request.held, None, ()
        if not request.computed:
            self.holdings.end(lease)
            return []
        request.parked = Parked(lease.anchor, lease.written)
        used = lease.pages[: self._budget.pages(request.computed)]
        self.holdings.end(lease)
        return [Park(request, lease.slot, used)]

    def stats(self, last_step_seconds: float, step_seconds: Observed = NO_STEPS) -> EngineStats:
        holdings = self.holdings
        return EngineStats(
            waiting=len(self.waiting),
            running=len(self.running),
            # Kept prefixes have slots beside these: an engine is full when as many requests run as may.
            state_slots_total=self._budget.running,
            state_slots_used=len(self.running),
            kv_pages_total=holdings.pages.total,
            kv_pages_used=holdings.pages.used - holdings.kept_pages,
            prefill_backlog_tokens=sum(request.backlog for request in self.all()),
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            generated_tokens=self._generated_tokens,
            last_step_seconds=last_step_seconds,
            prefix_hit_tokens=self._hit_tokens,
            drafted_tokens=self._drafted,
            accepted_tokens=self._accepted,
            preemptions=self._preemptions,
            step_seconds=step_seconds,
        )


def _stop_at(request: Request, tokens: int) -> None:
    """Have a state kept after so many tokens, if they are still to come."""
    if tokens > request.computed and tokens not in request.stops:
        request.stops = sorted([*request.stops, tokens], reverse=True)
