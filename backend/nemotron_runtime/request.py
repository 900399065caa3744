"""One prompt on its way to becoming text."""

from dataclasses import dataclass

from nemotron_runtime.types import FinishReason, SamplingParams, Sink


@dataclass(frozen=True, slots=True)
class Lease:
    """What a running request holds: one state slot, and pages for every token it may ever have."""

    slot: int
    pages: tuple[int, ...]


@dataclass(slots=True, eq=False)
class Request:
    """A request; it waits until it holds a lease. `computed` of its `tokens` are already in its slot and pages."""

    id: int
    prompt_tokens: int
    tokens: list[int]
    sampling: SamplingParams
    ends: frozenset[int]
    """Tokens that end the text."""
    sink: Sink
    computed: int = 0
    lease: Lease | None = None

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
        if self.generated and self.tokens[-1] in self.ends:
            return "stop"
        return "length" if self.generated == self.sampling.max_tokens else None

    @property
    def backlog(self) -> int:
        """Prompt tokens still to be computed."""
        return max(0, self.prompt_tokens - self.computed)

    @property
    def most_tokens(self) -> int:
        """The tokens it has at its end, if nothing ends it early."""
        return self.prompt_tokens + self.sampling.max_tokens

    @property
    def held(self) -> Lease:
        """The lease of a running request."""
        if self.lease is None:
            raise ValueError(f"request {self.id} is not running")
        return self.lease
