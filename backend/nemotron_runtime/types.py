"""What callers of the engine give and get."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from nemotron_runtime.histogram import NO_STEPS, Observed

FinishReason = Literal["stop", "length", "aborted", "error"]


@dataclass(frozen=True, slots=True)
class ThinkingBudget:
    """How long a model may think: at the first newline after `tokens` thoughts, or `grace` later, `end_id` follows.

    Thinking lasts from the newest `start_id` to the `end_id` after it; thoughts that stand in the prompt don't count.
    """

    start_id: int
    end_id: int
    newline_ids: frozenset[int]
    """Every token whose text has a newline in it."""
    tokens: int
    grace: int = 500


@dataclass(frozen=True, slots=True)
class Guide:
    """What form an answer must have: `text` is a JSON schema, an expression, a grammar or a list, as `kind` says.

    Where the prompt leaves thoughts open, the form is that of what follows the `end_id` that ends them. Of the two
    tokens of thinking, both are None where the model does not think.
    """

    kind: str
    text: str = ""
    start_id: int | None = None
    end_id: int | None = None


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens, and when to end.

    `temperature` 0 is greedy. The same seed, prompt and parameters give the same tokens whatever else is running: in
    exact mode always, else wherever the last bits of the logits do not decide.
    A model's logits are changed in this order: bias, repetition penalty, presence and frequency penalty, bans, guide,
    temperature, min_p, top_k, top_p.
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
    min_p: float = 0.0
    """Sample among tokens at least this likely, as a share of the likeliest one's probability."""
    min_tokens: int = 0
    """No token that ends the text is chosen before these many were."""
    repetition_penalty: float = 1.0
    """Logits of tokens seen in prompt or output are divided by it where positive, multiplied where negative."""
    presence_penalty: float = 0.0
    """Subtracted from the logit of each token seen in the output."""
    frequency_penalty: float = 0.0
    """Subtracted from a token's logit for each time it is seen in the output."""
    logit_bias: tuple[tuple[int, float], ...] = ()
    """(token, what is added to its logit); each token once."""
    bad_words: tuple[tuple[int, ...], ...] = ()
    """Runs of tokens that no choice completes; their first tokens may stand in the prompt."""
    thinking: ThinkingBudget | None = None
    guide: Guide | None = None
    """Choose only tokens with which the answer can take this form, and end where nothing more can follow."""
    logprobs: int | None = None
    """Report each chosen token's log-probability and those of the n likeliest; None reports nothing."""
    prompt_logprobs: int | None = None
    """The same for each of the prompt's tokens but the first; for it, kept prefixes are computed again."""

    @property
    def looks_back(self) -> bool:
        """Whether a choice depends on more than the few tokens before it."""
        penalises = self.repetition_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0
        return penalises or self.thinking is not None

    def ending_with(self, ids: Iterable[int]) -> "SamplingParams":
        """The same with all that ends the text in `stop_ids`, for a model whose own end-of-text tokens are `ids`."""
        return self if self.ignore_eos else replace(self, stop_ids=self.stop_ids.union(ids))


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Natural logarithms of probabilities, by the model's logits as they are: before any penalty, ban or filter."""

    chosen: float
    likeliest: tuple[tuple[int, float], ...] = ()
    """(token, logarithm), the likeliest first, of equal ones the lower token first."""


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
    """What the client may read of why it ended in `error`: no exception's text."""
    logprobs: TokenLogprobs | None = None
    """Of the token, where the request asked for them."""
    prompt_logprobs: tuple[TokenLogprobs, ...] | None = None
    """Of the prompt's tokens from the second on, with the first event of a request that asked for them."""


Sink = Callable[[TokenEvent], None]


@dataclass(frozen=True, slots=True)
class EngineStats:
    """The load now (gauges) and the work done so far (counters)."""

    waiting: int
    running: int
    state_slots_total: int
    """For running requests; kept prefixes have more."""
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
    step_seconds: Observed = NO_STEPS
    """Every step that was computed, by its duration."""


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
