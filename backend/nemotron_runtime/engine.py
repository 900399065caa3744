"""Run the step loop: take what was submitted, compute, hand out tokens."""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from nemotron_api.errors import Overloaded, RequestError, ShuttingDown
from nemotron_runtime.check import check
from nemotron_runtime.config import RuntimeConfig, load_config
from nemotron_runtime.executor import Executor, open_executor
from nemotron_runtime.ledger import Ledger
from nemotron_runtime.request import Request
from nemotron_runtime.sampler import Draw, sample
from nemotron_runtime.scheduler import Budget, Step
from nemotron_runtime.types import DEFAULT_TERMS, EngineStats, FinishReason, SamplingParams, Sink, Terms, TokenEvent

PREFILL_TOKENS = 256
"""Prompt tokens of one step: enough to keep matrix products busy, few enough that streams beside them go on."""

IDLE_TURN_SECONDS = 0.5

log = logging.getLogger(__name__)


class HybridEngine:
    """Continuous batching over one executor, on one thread of its own.

    `_lock` guards the ledger, the aborts asked for, and whether the engine goes on. Steps are computed and sinks are
    called without it, by the loop's thread alone.
    """

    def __init__(self, executor: Executor, runtime: RuntimeConfig, *, vocab_size: int, max_waiting: int) -> None:
        self._executor = executor
        self._runtime = runtime
        self._vocab_size = vocab_size
        self._max_waiting = max_waiting
        self._lock = threading.Condition()
        self._ledger = Ledger(runtime.max_batch, runtime.pages, Budget(PREFILL_TOKENS, runtime.page_tokens))
        self._aborts: set[int] = set()
        self._last_id = 0
        self._closing = False
        self._failure: str | None = None
        self._last_step_seconds = 0.0
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
        check(prompt, sampling, vocab_size=self._vocab_size, max_sequence_tokens=limit)
        ends = sampling.stop_ids if sampling.ignore_eos else sampling.stop_ids.union(self._runtime.eos_token_ids)
        with self._lock:
            self._refuse_if_stopped()
            if (waiting := len(self._ledger.waiting)) >= self._max_waiting:
                raise Overloaded(f"{waiting} requests wait already, at most {self._max_waiting} may: try again later")
            self._last_id += 1
            request = Request(self._last_id, len(prompt), list(prompt), sampling, ends, sink)
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
            return self._ledger.stats(self._last_step_seconds)

    def heartbeat(self) -> float:
        return time.monotonic() - self._last_turn

    def close(self) -> None:
        with self._lock:
            self._closing = True
            self._lock.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _refuse_if_stopped(self) -> None:
        if self._failure:
            raise RequestError(f"{self._failure}: restart the server")
        if self._closing:
            raise ShuttingDown("the engine is closed: send the request to another replica")

    def _run(self) -> None:
        """The thread: turn until closed. Whatever stops it, every request hears of it."""
        try:
            self._executor.enter()
            while not self._closing:
                self._turn()
        except Exception as error:
            log.exception("the engine's step loop failed")
            with self._lock:
                self._failure = f"the engine stopped after {type(error).__name__}: {error}"
        with self._lock:
            left = self._ledger.all()
        self._end(left, "error" if self._failure else "aborted", self._failure)

    def _turn(self) -> None:
        """One turn of the loop: aborts, then one step if there is anything to compute."""
        self._last_turn = time.monotonic()
        self._end(self._aborted(), "aborted")
        step = self._next_step()
        if not step.slices:
            return
        started = time.monotonic()
        for request in step.admitted:
            self._executor.admit(request.held)
        logits = self._executor.run(step)
        with self._lock:
            self._ledger.advance(step)
            self._last_step_seconds = time.monotonic() - started
        self._hand_out([piece.request for piece in step.slices if piece.is_last], logits)

    def _aborted(self) -> list[Request]:
        """The requests that someone asked to abort since the last turn."""
        with self._lock:
            asked, self._aborts = self._aborts, set()
            return [request for request in self._ledger.all() if request.id in asked] if asked else []

    def _next_step(self) -> Step:
        """The next step; an empty one when there was no work for a while, or something else to do came up."""
        with self._lock:
            if not (self._ledger.running or self._ledger.waiting or self._aborts or self._closing):
                self._lock.wait(IDLE_TURN_SECONDS)
            return self._ledger.next_step()

    def _hand_out(self, requests: Sequence[Request], logits: Tensor) -> None:
        """Give each request that computed all its tokens a new one."""
        if not requests:
            return
        finite = logits.isfinite().all(-1).tolist()
        tokens = sample(logits, [Draw(request.sampling, len(request.tokens)) for request in requests])
        for request, token, is_finite in zip(requests, tokens, finite, strict=True):
            if is_finite:
                self._give(request, token)
            else:
                self._end([request], "error", "the model's logits are not finite numbers: check the weights")

    def _give(self, request: Request, token: int) -> None:
        with self._lock:
            self._ledger.append(request, token)
            reason = request.finish_reason
            if reason:
                self._ledger.release([request])
        self._tell(request, token, reason)

    def _end(self, requests: Sequence[Request], reason: FinishReason, error: str | None = None) -> None:
        """End requests without a token."""
        with self._lock:
            self._ledger.release(requests)
        for request in requests:
            self._tell(request, None, reason, error)

    def _tell(self, request: Request, token: int | None, reason: FinishReason | None, error: str | None = None) -> None:
        """Call the sink; one that raises loses its request, not the engine."""
        try:
            request.sink(TokenEvent(request.id, token, reason, error))
        except Exception:
            log.exception("the sink of request %d failed; the request ends", request.id)
            if reason is None:
                with self._lock:
                    self._ledger.release([request])


def open_engine(directory: Path, *, threads: int | None = None, max_waiting: int = 256) -> HybridEngine:
    """Load what `pack` wrote and start the step thread.

    `threads` is how many threads compute a step; None chooses by weights and cores. Raises EngineMismatch for a
    directory that this runtime did not pack.
    """
    runtime = load_config(directory)
    config, executor = open_executor(directory, runtime, threads=threads)
    return HybridEngine(executor, runtime, vocab_size=config.vocab_size, max_waiting=max_waiting)
