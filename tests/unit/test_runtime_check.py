"""What the engine cannot serve is refused before it is queued, with a sentence that says what to change."""

import math

import pytest

from nemotron_api.errors import InvalidRequest
from nemotron_runtime import SamplingParams, ThinkingBudget
from nemotron_runtime.check import check

pytestmark = pytest.mark.unit


def a_budget(*, end_id: int = 2, tokens: int = 5) -> ThinkingBudget:
    return ThinkingBudget(start_id=1, end_id=end_id, newline_ids=frozenset(), tokens=tokens)


@pytest.mark.parametrize(
    ("prompt", "sampling", "message"),
    [
        pytest.param([], SamplingParams(), "the prompt is empty", id="empty-prompt"),
        pytest.param([1] * 64, SamplingParams(), "prompt of 64 tokens .* at most 64 tokens", id="prompt-fills-it"),
        pytest.param([1] * 99, SamplingParams(), "prompt of 99 tokens .* at most 64 tokens", id="prompt-too-long"),
        pytest.param(
            [1] * 60, SamplingParams(max_tokens=5), "60 tokens . max_tokens 5 = 65, .* 64 .* at most 4", id="sum"
        ),
        pytest.param([1], SamplingParams(max_tokens=2**31), "= 2147483649, .* at most 63", id="huge-max-tokens"),
        pytest.param([1], SamplingParams(max_tokens=0), "max_tokens must be at least 1; it is 0", id="no-tokens"),
        pytest.param([1], SamplingParams(max_tokens=-1), "max_tokens must be .* it is -1", id="negative-tokens"),
        pytest.param(
            [1, 32], SamplingParams(), "token 32 at position 1 is outside the vocabulary of 32", id="id-above"
        ),
        pytest.param([-1], SamplingParams(), "token -1 at position 0", id="id-below"),
        pytest.param(
            [1], SamplingParams(temperature=-0.1), "temperature must be .* it is -0.1", id="negative-temperature"
        ),
        pytest.param(
            [1], SamplingParams(temperature=math.nan), "temperature must be .* it is nan", id="nan-temperature"
        ),
        pytest.param(
            [1], SamplingParams(temperature=math.inf), "temperature must be .* it is inf", id="infinite-temperature"
        ),
        pytest.param([1], SamplingParams(top_p=0.0), "top_p must be .* it is 0.0", id="top-p-0"),
        pytest.param([1], SamplingParams(top_p=1.1), "top_p must be .* it is 1.1", id="top-p-above-1"),
        pytest.param([1], SamplingParams(top_p=math.nan), "top_p must be .* it is nan", id="nan-top-p"),
        pytest.param([1], SamplingParams(top_k=-1), "top_k must be .* it is -1", id="negative-top-k"),
        pytest.param([1], SamplingParams(min_p=math.nan), "min_p must be .* it is nan", id="nan-min-p"),
        pytest.param([1], SamplingParams(min_p=1.5), "min_p must be .* at most 1; it is 1.5", id="min-p-above-1"),
        pytest.param([1], SamplingParams(min_tokens=-1), "min_tokens must be .* it is -1", id="negative-min-tokens"),
        pytest.param([1], SamplingParams(max_tokens=3, min_tokens=4), "min_tokens is 4 and max_tokens 3", id="too-few"),
        pytest.param([1], SamplingParams(repetition_penalty=0.0), "repetition_penalty must be 1", id="repetition-0"),
        pytest.param([1], SamplingParams(repetition_penalty=math.nan), "it is nan", id="repetition-nan"),
        pytest.param([1], SamplingParams(presence_penalty=math.inf), "presence_penalty .* inf", id="presence-inf"),
        pytest.param([1], SamplingParams(frequency_penalty=-math.inf), "frequency_penalty .* -inf", id="frequency-inf"),
        pytest.param(
            [1],
            SamplingParams(prompt_logprobs=-1),
            "prompt_logprobs must be from 0 to 100; it is -1",
            id="prompt-logprobs",
        ),
        pytest.param([1], SamplingParams(logprobs=101), "logprobs must be from 0 to 100; it is 101", id="logprobs"),
        pytest.param([1], SamplingParams(logit_bias=((32, 1.0),)), "biased token 32 at position 0", id="bias-outside"),
        pytest.param([1], SamplingParams(logit_bias=((3, 1.0), (3, 2.0))), "names a token twice", id="bias-twice"),
        pytest.param([1], SamplingParams(logit_bias=((3, 1.0),) * 1025), "1025 tokens: at most 1024", id="many-biases"),
        pytest.param([1], SamplingParams(logit_bias=((3, math.nan),)), "bias of token 3 .* nan", id="bias-nan"),
        pytest.param([1], SamplingParams(bad_words=((),)), "a word without tokens", id="empty-bad-word"),
        pytest.param([1], SamplingParams(bad_words=((3, 40),)), "bad_words 40 at position 1", id="bad-word-outside"),
        pytest.param(
            [1],
            SamplingParams(
                bad_words=tuple((token,) for token in range(31)), stop_ids=frozenset({31}), min_tokens=1, max_tokens=2
            ),
            "ban all 32 tokens",
            id="nothing-left-to-choose",
        ),
        pytest.param([1], SamplingParams(thinking=a_budget(end_id=32)), "thinking budget 32", id="thinking-id-outside"),
        pytest.param([1], SamplingParams(thinking=a_budget(tokens=-1)), "is -1 tokens", id="negative-thinking-budget"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused(prompt: list[int], sampling: SamplingParams, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        check(prompt, sampling, vocab_size=32, max_sequence_tokens=64)


@pytest.mark.parametrize(
    ("prompt", "sampling"),
    [
        pytest.param([0], SamplingParams(max_tokens=63), id="as-many-tokens-as-fit"),
        pytest.param([31] * 63, SamplingParams(max_tokens=1), id="as-long-a-prompt-as-fits"),
        pytest.param(
            [5],
            SamplingParams(bad_words=tuple((token,) for token in range(31)), logprobs=100, thinking=a_budget(tokens=0)),
            id="one-token-left",
        ),
        pytest.param([5], SamplingParams(temperature=3.0, top_k=9999, top_p=1e-9, seed=2**64 - 1), id="odd-sampling"),
    ],
)
def test_requests_at_the_limits_are_served(prompt: list[int], sampling: SamplingParams) -> None:
    check(prompt, sampling, vocab_size=32, max_sequence_tokens=64)


@pytest.mark.parametrize(
    ("resumed", "message"),
    [
        pytest.param([32], "resumed token 32 at position 0", id="outside-the-vocabulary"),
        pytest.param([1] * 8, "8 tokens are resumed and max_tokens is 8: .* larger max_tokens", id="as-many-as-asked"),
        pytest.param([1] * 9, "9 tokens are resumed and max_tokens is 8", id="more-than-asked"),
        pytest.param([1, 2, 7], "the last resumed token, 7, ended the answer", id="ended"),
    ],
)
def test_an_answer_that_cannot_go_on_is_not_resumed(resumed: list[int], message: str) -> None:
    sampling = SamplingParams(max_tokens=8, stop_ids=frozenset({7}))

    with pytest.raises(InvalidRequest, match=message):
        check([1], sampling, resumed=resumed, vocab_size=32, max_sequence_tokens=64)


def test_an_answer_is_resumed_up_to_its_last_token() -> None:
    sampling = SamplingParams(max_tokens=63, stop_ids=frozenset({7}))

    check([1], sampling, resumed=[3] * 62, vocab_size=32, max_sequence_tokens=64)


@pytest.mark.parametrize("token", [-1, 61])
def test_a_token_that_ends_the_answer_must_be_one(token: int) -> None:
    sampling = SamplingParams(stop_ids=frozenset({5, token}), min_tokens=2)

    with pytest.raises(InvalidRequest, match=f"token that ends the answer {token} at position . is outside"):
        check([5], sampling, vocab_size=61, max_sequence_tokens=100)
