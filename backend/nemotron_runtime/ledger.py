"""Keep the books: who waits, who runs, and which slots and pages they hold."""

from collections import deque
from collections.abc import Iterable

from nemotron_runtime.pools import Pool
from nemotron_runtime.request import Lease, Request
from nemotron_runtime.scheduler import Budget, Free, Step, schedule
from nemotron_runtime.types import EngineStats


class Ledger:
    """Every request is waiting without a lease, running with one, or not in the books. Not safe for threads."""

    def __init__(self, slots: int, pages: int, budget: Budget) -> None:
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self._budget = budget
        self._slots = Pool(slots)
        # Page 0 is nobody's, see `Memory`.
        self._pages = Pool(pages, first=1)
        self._steps = self._prompt_tokens = self._generated_tokens = 0

    def add(self, request: Request) -> None:
        self.waiting.append(request)

    def next_step(self) -> Step:
        """What to compute next; the requests it admits run from now on."""
        free = Free(self._slots.free, self._pages.free)
        step = schedule(self.waiting, self.running, free, self._budget)
        for request in step.admitted:
            (slot,) = self._slots.take(1)
            request.lease = Lease(slot, self._pages.take(self._budget.pages(request)))
            self.waiting.popleft()
            self.running.append(request)
        return step

    def advance(self, step: Step) -> None:
        """Note that the step's slices were computed."""
        self._steps += 1
        for piece in step.slices:
            self._prompt_tokens += min(piece.tokens, piece.request.backlog)
            piece.request.computed += piece.tokens

    def append(self, request: Request, token: int) -> None:
        """Note a new token."""
        request.tokens.append(token)
        self._generated_tokens += 1

    def release(self, requests: Iterable[Request]) -> None:
        """Strike requests out, and take back what they hold."""
        for request in requests:
            if request.lease is None:
                self.waiting.remove(request)
                continue
            self.running.remove(request)
            self._slots.give_back([request.lease.slot])
            self._pages.give_back(request.lease.pages)
            request.lease = None

    def all(self) -> tuple[Request, ...]:
        return (*self.running, *self.waiting)

    def stats(self, last_step_seconds: float) -> EngineStats:
        return EngineStats(
            waiting=len(self.waiting),
            running=len(self.running),
            state_slots_total=self._slots.total,
            state_slots_used=self._slots.used,
            kv_pages_total=self._pages.total,
            kv_pages_used=self._pages.used,
            prefill_backlog_tokens=sum(request.backlog for request in self.all()),
            steps=self._steps,
            prompt_tokens=self._prompt_tokens,
            generated_tokens=self._generated_tokens,
            last_step_seconds=last_step_seconds,
        )
