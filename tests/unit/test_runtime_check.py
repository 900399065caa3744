"""What the engine cannot serve is refused before it is queued, with a sentence that says what to change."""

import math

import pytest

from nemotron_api.errors import InvalidRequest
from nemotron_runtime import SamplingParams
from nemotron_runtime.check import check

pytestmark = pytest.mark.unit


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
        pytest.param([1], SamplingParams(max_tokens=0), "max_tokens is 0: ask for at least 1", id="no-tokens"),
        pytest.param([1], SamplingParams(max_tokens=-1), "max_tokens is -1", id="negative-tokens"),
        pytest.param(
            [1, 32], SamplingParams(), "token 32 at position 1 is outside the vocabulary of 32", id="id-above"
        ),
        pytest.param([-1], SamplingParams(), "token -1 at position 0", id="id-below"),
        pytest.param([1], SamplingParams(temperature=-0.1), "temperature is -0.1", id="negative-temperature"),
        pytest.param([1], SamplingParams(temperature=math.nan), "temperature is nan", id="nan-temperature"),
        pytest.param([1], SamplingParams(temperature=math.inf), "temperature is inf", id="infinite-temperature"),
        pytest.param([1], SamplingParams(top_p=0.0), "top_p is 0.0", id="top-p-0"),
        pytest.param([1], SamplingParams(top_p=1.1), "top_p is 1.1", id="top-p-above-1"),
        pytest.param([1], SamplingParams(top_p=math.nan), "top_p is nan", id="nan-top-p"),
        pytest.param([1], SamplingParams(top_k=-1), "top_k is -1", id="negative-top-k"),
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
        pytest.param([5], SamplingParams(temperature=3.0, top_k=9999, top_p=1e-9, seed=2**64 - 1), id="odd-sampling"),
    ],
)
def test_requests_at_the_limits_are_served(prompt: list[int], sampling: SamplingParams) -> None:
    check(prompt, sampling, vocab_size=32, max_sequence_tokens=64)
