"""What callers of the engine give and get."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

FinishReason = Literal["stop", "length", "aborted", "error"]


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens, and when to end.

    `temperature` 0 is greedy. The same seed, prompt and parameters give the same tokens, whatever else is running.
    """

    max_tokens: int = 16
    temperature: float = 0.0
    top_k: int = 0
    """Sample among the k likeliest tokens; 0 is all."""
    top_p: float = 1.0
    """Sample among the likeliest tokens that hold this share of the probability."""
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()
    """End after any of these tokens, beside the model's own end-of-text tokens."""
    ignore_eos: bool = False
    """Go on after the model's own end-of-text tokens."""


@dataclass(frozen=True, slots=True)
class Terms:
    """How a request stands beside others, whatever it asks for."""

    client: str = ""
    """Who asks: clients get equal shares."""
    priority: int = 0
    """Higher goes first."""
    deadline: float | None = None
    """Seconds of `time.monotonic` after which nobody waits for it any more."""
    salt: str = ""
    """Requests reuse the prefixes of those with the same salt only."""


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One new token, or the end of a request. The last event of a request, and no other, has a finish reason."""

    request_id: int
    token: int | None
    """None on `aborted` and `error` only; on `stop` it is the token that ended the text."""
    finish_reason: FinishReason | None
    error: str | None = None


Sink = Callable[[TokenEvent], None]


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The load now (gauges) and the work done so far (counters)."""

    waiting: int
    running: int
    state_slots_total: int
    state_slots_used: int
    kv_pages_total: int
    kv_pages_used: int
    prefill_backlog_tokens: int
    steps: int
    prompt_tokens: int
    generated_tokens: int
    last_step_seconds: float
    prefix_hit_tokens: int = 0
    """Prompt tokens that were not computed, because a state after them was kept."""
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    """Drafted tokens that turned out to be what the model chooses."""
    preemptions: int = 0


DEFAULT_TERMS = Terms()


class Engine(Protocol):
    """Something that turns prompts into token streams; safe to call from any thread."""

    def submit(
        self,
        prompt: Sequence[int],
        sampling: SamplingParams,
        sink: Sink,
        *,
        resumed: Sequence[int] = (),
        terms: Terms = DEFAULT_TERMS,
    ) -> int:
        """Queue a prompt and return its id.

        `resumed` are tokens that were generated for it before, elsewhere: the answer goes on after them as if they
        had been generated here, and they count as generated.

        The sink gets its events on the engine's thread, the first perhaps before this returns, and must not block.
        Raises InvalidRequest, whose text has both numbers where a limit is passed, Overloaded, ShuttingDown after
        `close`, and RequestError once the engine failed.
        """

    def abort(self, request_id: int) -> None:
        """End a request soon, with `aborted`. Ids that are unknown or already done are ignored."""

    def stats(self) -> EngineStats:
        """The load as of the last step."""

    def heartbeat(self) -> float:
        """Seconds since the step loop last turned; it turns when idle, too."""

    def close(self) -> None:
        """Abort what is left and stop; idempotent."""
