"""Run the step loop: take what was submitted, compute, hand out tokens."""

import logging
import math
import threading
import time
from collections.abc import Sequence

from nemotron_api.errors import Overloaded, RequestError, ShuttingDown
from nemotron_runtime.check import check
from nemotron_runtime.config import RuntimeConfig
from nemotron_runtime.executor import Executor
from nemotron_runtime.guides import NO_GUIDES, Guides
from nemotron_runtime.histogram import STEP_SECONDS, Histogram
from nemotron_runtime.incident import record
from nemotron_runtime.ledger import Ledger
from nemotron_runtime.moves import Move
from nemotron_runtime.outcome import Outcome, outcomes
from nemotron_runtime.prefix_cache import worth_keeping
from nemotron_runtime.request import Request
from nemotron_runtime.sampler import Chosen
from nemotron_runtime.scheduler import Step
from nemotron_runtime.speculation import Speculation
from nemotron_runtime.types import DEFAULT_TERMS, EngineStats, FinishReason, SamplingParams, Sink, Terms, TokenEvent

IDLE_TURN_SECONDS = 0.5

NOT_FINITE = "the model's logits are not finite numbers: check the weights"
NOT_FINITE_IN_FP16 = f"{NOT_FINITE}, or pack the engine with FP32 states, as FP16 ends at 65504"

log = logging.getLogger(__name__)


class HybridEngine:
    """Continuous batching over one executor, on one thread of its own.

    `_lock` guards the ledger, the times of steps, the aborts asked for, and whether the engine goes on. Steps are
    computed and sinks are called without it, by the loop's thread alone.
    """

    def __init__(
        self,
        executor: Executor,
        ledger: Ledger,
        runtime: RuntimeConfig,
        *,
        vocab_size: int,
        max_waiting: int,
        speculation: Speculation | None = None,
        guides: Guides = NO_GUIDES,
    ) -> None:
        self._executor = executor
        self._ledger = ledger
        self._speculation = speculation
        self._guides = guides
        self._runtime = runtime
        self._vocab_size = vocab_size
        self._max_waiting = max_waiting
        self._lock = threading.Condition()
        self._aborts: set[int] = set()
        self._last_id = 0
        self._closing = False
        self._failure: str | None = None
        self._last_step_seconds = 0.0
        self._steps = Histogram(STEP_SECONDS)
        self._last_turn = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="nemotron-engine", daemon=True)
        self._thread.start()

    def submit(
        self,
        prompt: Sequence[int],
        sampling: SamplingParams,
        sink: Sink,
        *,
        resumed: Sequence[int] = (),
        terms: Terms = DEFAULT_TERMS,
    ) -> int:
        limit = self._runtime.max_sequence_tokens
        sampling = sampling.ending_with(token for token in self._runtime.eos_token_ids if token < self._vocab_size)
        check(prompt, sampling, resumed=resumed, vocab_size=self._vocab_size, max_sequence_tokens=limit)
        grammar = self._guides.grammar(sampling, prompt, resumed) if sampling.guide else None
        with self._lock:
            self._refuse_if_stopped()
            if (waiting := len(self._ledger.waiting)) >= self._max_waiting:
                raise Overloaded(f"{waiting} requests wait already, at most {self._max_waiting} may: try again later")
            self._last_id += 1
            # The family's chat template ends every message with a token that ends the text, too.
            stops = worth_keeping(prompt, self._runtime.eos_token_ids)
            request = Request(self._last_id, len(prompt), [*prompt, *resumed], sampling, sink, terms, stops=stops)
            request.grammar, request.prompt_logprobs = grammar, [] if sampling.prompt_logprobs is not None else None
            self._ledger.add(request)
            self._lock.notify()
        return request.id

    def abort(self, request_id: int) -> None:
        with self._lock:
            if any(request.id == request_id for request in self._ledger.all()):
                self._aborts.add(request_id)
                self._lock.notify()

    def stats(self) -> EngineStats:
        with self._lock:
            return self._ledger.stats(self._last_step_seconds, self._steps.observed)

    def heartbeat(self) -> float:
        # A loop that ended never turns again: whoever waits for a sign of life need not wait long.
        return math.inf if self._failure else time.monotonic() - self._last_turn

    def close(self) -> None:
        with self._lock:
            self._closing = True
            self._lock.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        self._guides.close()

    def _refuse_if_stopped(self) -> None:
        if self._failure:
            raise RequestError(self._failure)
        if self._closing:
            raise ShuttingDown("the engine is closed: send the request to another replica")

    def _run(self) -> None:
        """The thread: turn until closed. Whatever stops it, every request hears of it."""
        try:
            self._executor.enter()
            while not self._closing:
                self._turn()
        except Exception as error:  # noqa: BLE001  whatever it is, everyone must hear of it
            incident = record(log, "the engine's step loop failed", error)
            with self._lock:
                # Clients read this: what broke is the operator's to know, who finds it in the log.
                self._failure = f"the engine has stopped, the server's log says why ({incident}): ask another replica"
        with self._lock:
            left = self._ledger.all()
        self._end(left, "error" if self._failure else "aborted", self._failure)

    def _turn(self) -> None:
        """One turn of the loop: aborts, then one step if there is anything to compute."""
        self._last_turn = time.monotonic()
        self._end(self._aborted(), "aborted")
        step, moves = self._next_step()
        self._executor.move(moves)
        if step.slices:
            started = time.monotonic()
            logits = self._executor.run(step.slices, drafting=self._uses_module)
            self._note_step(time.monotonic() - started)
            found = outcomes(step.slices, logits)
            self._settle(found)
            if self._speculation:
                self._speculation.follow(found, time.monotonic() - started, self._ledger.running)

    def _note_step(self, seconds: float) -> None:
        with self._lock:
            self._last_step_seconds = seconds
            self._steps.observe(seconds)

    @property
    def _uses_module(self) -> bool:
        """Whether the model's own module drafts after the next step."""
        return self._speculation is not None and self._executor.has_module and not self._speculation.is_resting

    def _aborted(self) -> list[Request]:
        """The requests that someone asked to abort since the last turn."""
        with self._lock:
            asked, self._aborts = self._aborts, set()
            return [request for request in self._ledger.all() if request.id in asked] if asked else []

    def _next_step(self) -> tuple[Step, list[Move]]:
        """The next step; an empty one when there was no work for a while, or something else to do came up."""
        with self._lock:
            if not (self._ledger.running or self._ledger.waiting or self._aborts or self._closing):
                self._lock.wait(IDLE_TURN_SECONDS)
            return self._ledger.next_step()

    def _settle(self, found: Sequence[Outcome]) -> None:
        """Write down what follows each slice, and hand it out."""
        moves: list[Move] = []
        with self._lock:
            for each in found:
                moves += self._ledger.advance(each.piece, each.tokens, is_torn=each.is_torn)
            reasons = {each.request: each.request.finish_reason for each in found if each.accepted}
            for request, reason in reasons.items():
                if reason:
                    self._ledger.finish(request)
        # Those who are done are in no books any more: they hear of it before anything else can go wrong.
        for each in found:
            if each.accepted:
                self._hand_out(each.request, each.accepted, reasons[each.request])
        self._executor.move(moves)
        not_finite = NOT_FINITE_IN_FP16 if self._runtime.state_dtype == "FP16" else NOT_FINITE
        for each in found:
            if each.is_broken:
                self._end([each.request], "error", each.failure or not_finite)

    def _hand_out(self, request: Request, chosen: Sequence[Chosen], reason: FinishReason | None) -> None:
        """Tell a request's sink its new tokens; the last one has the reason, if there is one.

        A sink that fails gets no more of them, and its end in a while; at once where its request is done.
        """
        for each in chosen:
            is_last = each is chosen[-1]
            prompt = request.take_prompt_logprobs()
            event = TokenEvent(request.id, each.token, reason if is_last else None, None, each.logprobs, prompt)
            if not self._tell(request, event):
                if reason and not is_last:
                    self._tell(request, TokenEvent(request.id, None, "aborted"))
                return

    def _end(self, requests: Sequence[Request], reason: FinishReason, error: str | None = None) -> None:
        """End requests without a token."""
        with self._lock:
            self._ledger.release(requests)
        for request in requests:
            self._tell(request, TokenEvent(request.id, None, reason, error))

    def _tell(self, request: Request, event: TokenEvent) -> bool:
        """Call the sink, and say whether it took the event; one that raises loses its request, not the engine."""
        try:
            request.sink(event)
        except Exception:
            log.exception("the sink of request %d failed; the request ends", request.id)
            with self._lock:
                self._aborts.add(request.id)
            return False
        return True
