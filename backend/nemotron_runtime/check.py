"""Refuse what the engine cannot serve, before it is queued."""

from collections.abc import Sequence

from nemotron_api.errors import InvalidRequest
from nemotron_runtime.types import SamplingParams


def check(prompt: Sequence[int], sampling: SamplingParams, *, vocab_size: int, max_sequence_tokens: int) -> None:
    """Raise InvalidRequest for the first thing wrong with a request; where a limit is passed, with both numbers."""
    _check_prompt(prompt, vocab_size, max_sequence_tokens)
    _check_sampling(sampling)
    if (total := len(prompt) + sampling.max_tokens) > max_sequence_tokens:
        raise InvalidRequest(
            f"prompt of {len(prompt)} tokens + max_tokens {sampling.max_tokens} = {total}, but a sequence holds at "
            f"most {max_sequence_tokens} tokens: ask for at most {max_sequence_tokens - len(prompt)}"
        )


def _check_prompt(prompt: Sequence[int], vocab_size: int, max_sequence_tokens: int) -> None:
    if not prompt:
        raise InvalidRequest("the prompt is empty: send at least one token")
    if len(prompt) >= max_sequence_tokens:
        raise InvalidRequest(
            f"prompt of {len(prompt)} tokens leaves no room to generate: a sequence holds at most "
            f"{max_sequence_tokens} tokens, so shorten the prompt to {max_sequence_tokens - 1} or fewer"
        )
    for position, token in enumerate(prompt):
        if not 0 <= token < vocab_size:
            raise InvalidRequest(f"token {token} at position {position} is outside the vocabulary of {vocab_size}")


def _check_sampling(sampling: SamplingParams) -> None:
    """Comparisons are written so that NaN fails them."""
    if sampling.max_tokens < 1:
        raise InvalidRequest(f"max_tokens is {sampling.max_tokens}: ask for at least 1")
    if not 0 <= sampling.temperature < float("inf"):
        raise InvalidRequest(f"temperature is {sampling.temperature}: use 0 for greedy, or a positive number")
    if not 0 < sampling.top_p <= 1:
        raise InvalidRequest(f"top_p is {sampling.top_p}: use a number above 0, at most 1")
    if sampling.top_k < 0:
        raise InvalidRequest(f"top_k is {sampling.top_k}: use 0 for all tokens, or a positive number")
