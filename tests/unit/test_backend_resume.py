"""An answer that broke off goes on elsewhere as if nothing had happened, wherever it was cut."""

import zlib
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nemotron_api.errors import InvalidRequest
from nemotron_backend.answer import Answer, Chunk
from nemotron_backend.request import GenerationRequest
from nemotron_runtime import SamplingParams, ThinkingBudget
from nemotron_runtime.sampler import Choice, Chosen, choose
from tests.builders.byte_level import decode

pytestmark = pytest.mark.unit

PROMPT = "<é\n"
IDS = PROMPT.encode()
ALPHABET = "ab\né∎"
BUDGET = ThinkingBudget(start_id=ord("<"), end_id=ord(">"), newline_ids=frozenset(b"\n"), tokens=3, grace=3)

PARAMS = st.builds(
    SamplingParams,
    max_tokens=st.just(24),
    min_tokens=st.sampled_from([0, 5]),
    temperature=st.sampled_from([0.0, 0.8]),
    top_p=st.sampled_from([0.9, 1.0]),
    seed=st.integers(0, 2**64 - 1),
    stop_ids=st.sampled_from([frozenset[int](), frozenset(b"!")]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.25]),
    bad_words=st.sampled_from([(), ((*b"aa",), (*b"ba",))]),
    thinking=st.sampled_from([None, BUDGET]),
    logprobs=st.sampled_from([None, 2]),
)
REQUESTS = st.builds(
    GenerationRequest,
    prompt=st.just(PROMPT),
    sampling=PARAMS,
    stop_words=st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=2).map(tuple),
    include_stop_words=st.booleans(),
    echo_prompt=st.booleans(),
)


def the_logits(tokens: Sequence[int]) -> Tensor:
    """A model that is a function of all tokens before, and likes the bytes of ALPHABET."""
    logits = torch.randn(1, 256, generator=torch.Generator().manual_seed(zlib.crc32(bytes(tokens))))
    logits[0, list({*ALPHABET.encode(), *b"!"})] += 6
    return logits


def generate(request: GenerationRequest) -> list[tuple[Chosen, str]]:
    """What an engine makes of the request: its new tokens, each with the finish reason."""
    made: list[tuple[Chosen, str]] = []
    tokens, reason = [*IDS, *request.resumed], ""
    while not reason:
        (chosen,) = choose(the_logits(tokens), [Choice(request.sampling, tuple(tokens), len(IDS))])
        tokens.append(chosen.token)
        is_full = len(tokens) - len(IDS) == request.sampling.max_tokens
        reason = "stop" if chosen.token in request.sampling.stop_ids else "length" if is_full else ""
        made.append((chosen, reason))
    return made


def answered(request: GenerationRequest) -> list[Chunk]:
    """The answer as a stream with a response for each token."""
    answer = Answer(request, len(IDS), decode)
    chunks = []
    for chosen, reason in generate(request):
        answer.extend([chosen.token], reason, [chosen.logprobs] if chosen.logprobs else [])
        chunks.append(answer.take())
        if answer.finish_reason:
            break
    return chunks


def without_sum(chunk: Chunk) -> tuple[object, ...]:
    """All that does not depend on log-probabilities which only the broken stream had."""
    return (chunk.text, chunk.token_ids, chunk.finish_reason, chunk.completion_tokens, chunk.logprobs)


@settings(max_examples=40, deadline=None)
@given(REQUESTS)
def test_an_answer_cut_after_any_token_goes_on_the_same(request: GenerationRequest) -> None:
    whole = answered(request)
    tokens = [token for chunk in whole for token in chunk.token_ids]

    for cut in range(1, len(whole)):
        rest = answered(resumed(request, tokens[:cut]))
        assert [without_sum(chunk) for chunk in rest] == [without_sum(chunk) for chunk in whole[cut:]]


def resumed(request: GenerationRequest, tokens: Sequence[int]) -> GenerationRequest:
    return GenerationRequest(
        request.prompt,
        request.sampling,
        stop_words=request.stop_words,
        include_stop_words=request.include_stop_words,
        echo_prompt=request.echo_prompt,
        resumed=tuple(tokens),
    )


@given(st.text(ALPHABET, min_size=2, max_size=80), st.data())
def test_a_long_answer_cut_within_a_character_is_whole(text: str, data: st.DataObject) -> None:
    tokens = text.encode()
    cut = data.draw(st.integers(1, len(tokens) - 1))
    groups = data.draw(st.lists(st.integers(1, 40), max_size=4))
    request = GenerationRequest(PROMPT, SamplingParams(max_tokens=1000))

    first, before = Answer(request, len(IDS), decode), tokens[:cut]
    for size in [*groups, cut]:
        first.extend(before[:size])
        before = before[size:]
    second = Answer(resumed(request, tokens[:cut]), len(IDS), decode)
    second.extend(tokens[cut:], "length")

    assert first.take().text + second.take().text == text


def test_a_stop_word_that_came_too_early_to_end_the_answer_does_not_end_it_later() -> None:
    request = GenerationRequest(PROMPT, SamplingParams(min_tokens=4), stop_words=("ab",), resumed=(*b"abxyz",))

    answer = Answer(request, len(IDS), decode)
    answer.extend(b"ab!")

    assert (answer.finish_reason, answer.take().completion_tokens) == ("stop", 7)


def test_an_answer_that_was_complete_does_not_go_on() -> None:
    request = GenerationRequest(PROMPT, SamplingParams(), stop_words=("ab",), resumed=(*b"xab",))

    with pytest.raises(InvalidRequest, match="the whole answer, up to a stop word"):
        Answer(request, len(IDS), decode)
