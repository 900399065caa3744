"""Refuse what the engine cannot serve, before it is queued."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from nemotron_api.errors import InvalidRequest
from nemotron_runtime.types import SamplingParams

LARGEST: Final = 1_000_000.0
"""Of what is added to a logit: none overflows by it."""
MOST_LOGPROBS: Final = 100
MOST_BIASES: Final = 1024
MOST_PROMPT_LOGPROBS: Final = 1 << 18
"""Numbers of one request: they are all held until its first token is there."""

RULES: Final[tuple[tuple[str, Callable[[Any], bool], str], ...]] = (
    ("max_tokens", lambda value: value >= 1, "at least 1"),
    ("min_tokens", lambda value: value >= 0, "0 or more"),
    ("temperature", lambda value: 0 <= value < math.inf, "a finite number, 0 (greedy) or more"),
    ("top_k", lambda value: value >= 0, "0 for all tokens, or more"),
    ("top_p", lambda value: 0 < value <= 1, "more than 0 and at most 1"),
    ("min_p", lambda value: 0 <= value <= 1, "0 for all tokens, and at most 1"),
    ("repetition_penalty", lambda value: 0.01 <= value <= 100, "1 for none, or another number from 0.01 to 100"),
    ("presence_penalty", lambda value: abs(value) <= LARGEST, f"a number from {-LARGEST:g} to {LARGEST:g}"),
    ("frequency_penalty", lambda value: abs(value) <= LARGEST, f"a number from {-LARGEST:g} to {LARGEST:g}"),
    ("prompt_logprobs", lambda value: value is None or 0 <= value <= MOST_LOGPROBS, f"from 0 to {MOST_LOGPROBS}"),
    ("logprobs", lambda value: value is None or 0 <= value <= MOST_LOGPROBS, f"from 0 to {MOST_LOGPROBS}"),
)
"""What a parameter must satisfy, and be; a NaN satisfies nothing."""


def check(
    prompt: Sequence[int],
    sampling: SamplingParams,
    *,
    resumed: Sequence[int] = (),
    vocab_size: int,
    max_sequence_tokens: int,
) -> None:
    """Raise InvalidRequest for the first thing wrong with a request; where a limit is passed, with both numbers."""
    _check_prompt(prompt, vocab_size, max_sequence_tokens)
    _check_sampling(sampling, vocab_size)
    _check_prompt_logprobs(prompt, sampling)
    if (total := len(prompt) + sampling.max_tokens) > max_sequence_tokens:
        raise InvalidRequest(
            f"prompt of {len(prompt)} tokens + max_tokens {sampling.max_tokens} = {total}, but a sequence holds at "
            f"most {max_sequence_tokens} tokens: ask for at most {max_sequence_tokens - len(prompt)}"
        )
    _check_resumed(resumed, sampling, vocab_size)


def _check_prompt(prompt: Sequence[int], vocab_size: int, max_sequence_tokens: int) -> None:
    if not prompt:
        raise InvalidRequest("the prompt is empty: send at least one token")
    if len(prompt) >= max_sequence_tokens:
        raise InvalidRequest(
            f"prompt of {len(prompt)} tokens leaves no room to generate: a sequence holds at most "
            f"{max_sequence_tokens} tokens, so shorten the prompt to {max_sequence_tokens - 1} or fewer"
        )
    _check_ids("token", prompt, vocab_size)


def _check_prompt_logprobs(prompt: Sequence[int], sampling: SamplingParams) -> None:
    if (likeliest := sampling.prompt_logprobs) is None:
        return
    if (numbers := len(prompt) * (1 + likeliest)) > MOST_PROMPT_LOGPROBS:
        raise InvalidRequest(
            f"the log-probabilities of {len(prompt)} prompt tokens and {likeliest} others beside each are {numbers} "
            f"numbers, at most {MOST_PROMPT_LOGPROBS} are told: ask for fewer beside each, or in parts"
        )


def _check_sampling(sampling: SamplingParams, vocab_size: int) -> None:
    for name, holds, demand in RULES:
        if not holds(value := getattr(sampling, name)):
            raise InvalidRequest(f"{name} must be {demand}; it is {value}")
    if sampling.min_tokens > sampling.max_tokens:
        raise InvalidRequest(
            f"min_tokens is {sampling.min_tokens} and max_tokens {sampling.max_tokens}: lower min_tokens, or raise "
            "max_tokens"
        )
    _check_ids("token that ends the answer", sorted(sampling.stop_ids), vocab_size)
    _check_bias(sampling, vocab_size)
    _check_bans(sampling, vocab_size)
    _check_thinking(sampling, vocab_size)


def _check_bias(sampling: SamplingParams, vocab_size: int) -> None:
    ids = [token for token, _ in sampling.logit_bias]
    _check_ids("biased token", ids, vocab_size)
    if len(ids) > MOST_BIASES:
        raise InvalidRequest(f"logit_bias names {len(ids)} tokens: at most {MOST_BIASES} may have one")
    if len(set(ids)) < len(ids):
        raise InvalidRequest("logit_bias names a token twice: add its numbers up")
    for token, bias in sampling.logit_bias:
        if not abs(bias) <= LARGEST:
            raise InvalidRequest(f"the bias of token {token} must be from {-LARGEST:g} to {LARGEST:g}; it is {bias}")


def _check_bans(sampling: SamplingParams, vocab_size: int) -> None:
    """However few tokens the bans leave, there is always one to choose."""
    if () in sampling.bad_words:
        raise InvalidRequest("bad_words holds a word without tokens: leave it out")
    _check_ids("token of bad_words", [token for word in sampling.bad_words for token in word], vocab_size)
    ends = sampling.stop_ids if sampling.min_tokens else frozenset()
    banned = ends.union(word[-1] for word in sampling.bad_words)
    if len(banned) >= vocab_size:
        raise InvalidRequest(f"bad_words and min_tokens ban all {vocab_size} tokens: leave one to choose")


def _check_thinking(sampling: SamplingParams, vocab_size: int) -> None:
    if (thinking := sampling.thinking) is None:
        return
    _check_ids("token of the thinking budget", (thinking.start_id, thinking.end_id), vocab_size)
    if thinking.tokens < 0 or thinking.grace < 0:
        raise InvalidRequest(
            f"the thinking budget is {thinking.tokens} tokens with a grace of {thinking.grace}: use 0 or more for both"
        )


def _check_resumed(resumed: Sequence[int], sampling: SamplingParams, vocab_size: int) -> None:
    _check_ids("resumed token", resumed, vocab_size)
    if len(resumed) >= sampling.max_tokens:
        raise InvalidRequest(
            f"{len(resumed)} tokens are resumed and max_tokens is {sampling.max_tokens}: the answer is complete; it "
            "goes on only with a larger max_tokens, which counts the resumed ones, too"
        )
    if resumed and resumed[-1] in sampling.stop_ids:
        raise InvalidRequest(f"the last resumed token, {resumed[-1]}, ended the answer: there is nothing to go on with")


def _check_ids(what: str, ids: Sequence[int], vocab_size: int) -> None:
    for position, token in enumerate(ids):
        if not 0 <= token < vocab_size:
            raise InvalidRequest(f"{what} {token} at position {position} is outside the vocabulary of {vocab_size}")
