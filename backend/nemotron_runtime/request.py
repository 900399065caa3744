"""One prompt on its way to becoming text."""

from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, field
from typing import Any

from nemotron_runtime.choice import Choice, Followed
from nemotron_runtime.grammar import Grammar
from nemotron_runtime.seen import Seen
from nemotron_runtime.types import DEFAULT_TERMS, FinishReason, SamplingParams, Sink, Terms, TokenLogprobs


@dataclass(slots=True)
class Lease:
    """What a running request holds: one state slot, and pages for the tokens it has so far."""

    slot: int
    pages: MutableSequence[int]
    anchor: int = 0
    """The tokens that the slot's state holds; those after them are in its ring."""
    written: int = 0
    """Where the tokens end that were ever written, wrong drafts among them."""


@dataclass(slots=True)
class Parked:
    """A session outside the pools, until it gets a place again."""

    anchor: int
    written: int
    content: Any = None
    """What its slot and pages held, in whatever form the executor keeps it; gone with this object."""


@dataclass(slots=True, eq=False)
class Request:
    """A request; it waits until it holds a lease. `computed` of its `tokens` are already in its slot and pages."""

    id: int
    prompt_tokens: int
    tokens: list[int]
    sampling: SamplingParams
    sink: Sink
    terms: Terms = DEFAULT_TERMS
    computed: int = 0
    lease: Lease | None = None
    drafts: tuple[int, ...] = ()
    """Guesses at the tokens after the newest one, to be computed with it."""
    stops: list[int] = field(default_factory=list)
    """Where a state will be kept, in falling order: no slice goes beyond the next of them."""
    chain: list[bytes] = field(default_factory=list)
    """The digests of its blocks of tokens, as far as anybody asked."""
    parked: Parked | None = None
    seen: Seen | None = None
    """What was looked at of its tokens, where its sampling looks back; drafts are never among them."""
    grammar: Grammar | None = None
    """What holds the answer to its form."""
    prompt_logprobs: list[TokenLogprobs] | None = None
    """Of the prompt's tokens from the second on, as far as they are computed; None where nobody waits for them."""

    def choice(self, drafts: Sequence[int] = ()) -> Choice:
        """The token to be chosen after these drafts. Its tokens are looked at once, whatever is asked later."""
        if self.sampling.looks_back:
            self.seen = self.seen or Seen(self.prompt_tokens)
            self.seen.extend(self.tokens[len(self.seen) :])
        tokens = Followed(self.tokens, drafts) if drafts else self.tokens
        return Choice(self.sampling, tokens, self.prompt_tokens, self.seen, self.grammar)

    def start_over(self) -> None:
        """Forget all that was computed of it, but no token: they are computed again, and go on to the same ones."""
        self.parked, self.computed = None, 0

    @property
    def pending(self) -> int:
        """Tokens still to be computed: the rest of the prompt, or the one token generated last."""
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the newest token is the last one, if it is."""
        return self.finishes_with(()) if self.generated else None

    def finishes_with(self, new: Sequence[int]) -> FinishReason | None:
        """Why the newest token would be the last one, if it would be, once `new` were generated, too."""
        tokens = Followed(self.tokens, new) if new else self.tokens
        if tokens[-1] in self.sampling.stop_ids or (self.grammar and self.grammar.is_complete(tokens)):
            return "stop"
        return "length" if self.generated + len(new) >= self.sampling.max_tokens else None

    def likely(self, drafts: tuple[int, ...]) -> tuple[int, ...]:
        """As many of the drafts as may be chosen at all."""
        return self.grammar.permitted(self.tokens, drafts) if self.grammar and drafts else drafts

    def note_of_prompt(self, found: TokenLogprobs) -> None:
        """Add what is known of the prompt's next token."""
        self.prompt_logprobs = self.prompt_logprobs or []
        self.prompt_logprobs.append(found)

    def take_prompt_logprobs(self) -> tuple[TokenLogprobs, ...] | None:
        """What is known of the prompt, for whoever waits for it; once."""
        found, self.prompt_logprobs = self.prompt_logprobs, None
        return None if found is None else tuple(found)

    @property
    def backlog(self) -> int:
        """Tokens to be computed before the next one can be generated, beside the newest."""
        return max(0, self.pending - 1) if self.generated else self.pending

    @property
    def held(self) -> Lease:
        """The lease of a running request."""
        if self.lease is None:
            raise ValueError(f"request {self.id} is not running")
        return self.lease
