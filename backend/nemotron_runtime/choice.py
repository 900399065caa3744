"""Describe one token to be chosen, and the token chosen."""

from collections.abc import Sequence
from dataclasses import dataclass

from nemotron_runtime.types import SamplingParams, TokenLogprobs


@dataclass(frozen=True, slots=True)
class Choice:
    """The next token of one sequence: `tokens` is all that stands before it, `prompt_tokens` of them the prompt's."""

    params: SamplingParams
    tokens: Sequence[int]
    prompt_tokens: int

    @property
    def position(self) -> int:
        """Of the token to be chosen, in its sequence."""
        return len(self.tokens)

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_tokens

    @property
    def output(self) -> Sequence[int]:
        return self.tokens[self.prompt_tokens :]

    @property
    def is_greedy(self) -> bool:
        return self.params.temperature == 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """The token; with its log-probabilities where the parameters ask for them."""

    token: int
    logprobs: TokenLogprobs | None = None
