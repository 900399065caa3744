"""What a request says in words becomes the tokens of this model, or a sentence that says what to change."""

import pytest

from nemotron_api.errors import InvalidRequest
from nemotron_backend.request import GenerationRequest
from nemotron_backend.vocabulary import Vocabulary, settle
from nemotron_runtime import Guide, SamplingParams, ThinkingBudget
from tests.builders.byte_level import byte_level

pytestmark = pytest.mark.unit

PLAIN = Vocabulary(byte_level())
THINKING = Vocabulary(byte_level("<think>", "</think>"))


GREEDY = SamplingParams()


def a_request(sampling: SamplingParams = GREEDY, **more: object) -> GenerationRequest:
    return GenerationRequest("Q", sampling, **more)  # type: ignore[arg-type]


def test_a_request_without_words_is_as_it_was() -> None:
    sampling = SamplingParams(temperature=0.5, seed=3)

    assert settle(a_request(sampling), PLAIN) == (sampling,)


def test_each_answer_has_the_next_seed() -> None:
    samplings = settle(a_request(SamplingParams(temperature=1.0, seed=2**64 - 2), answers=4), PLAIN)

    assert [each.seed for each in samplings] == [2**64 - 2, 2**64 - 1, 0, 1]


def test_a_bad_word_is_banned_at_a_start_and_after_a_blank() -> None:
    (sampling,) = settle(a_request(bad_words=("no", " so")), PLAIN)

    assert sampling.bad_words == ((*b"no",), (*b" no",), (*b" so",))


def test_biases_of_words_and_ids_add_up() -> None:
    (sampling,) = settle(
        a_request(SamplingParams(logit_bias=((97, 1.0), (5, 2.0))), bias_words=(("aab", 10.0),)), PLAIN
    )

    assert dict(sampling.logit_bias) == {97: 11.0, 98: 10.0, 5: 2.0}


def test_a_budget_knows_the_tokens_of_thinking_and_those_with_a_newline() -> None:
    (sampling,) = settle(a_request(reasoning_budget=7), THINKING)

    assert sampling.thinking == ThinkingBudget(256, 257, frozenset(b"\n"), 7)


def test_a_model_that_does_not_think_has_no_budget() -> None:
    with pytest.raises(InvalidRequest, match=r"no <think> and </think>, .* leave reasoning_budget out"):
        settle(a_request(reasoning_budget=7), PLAIN)


@pytest.mark.parametrize(
    ("vocabulary", "thoughts"),
    [pytest.param(THINKING, (256, 257), id="thinks"), pytest.param(PLAIN, (None, None), id="does-not")],
)
def test_a_guide_learns_where_thoughts_end(vocabulary: Vocabulary, thoughts: tuple[int | None, int | None]) -> None:
    (sampling,) = settle(a_request(SamplingParams(guide=Guide("regex", "a"))), vocabulary)

    assert sampling.guide == Guide("regex", "a", *thoughts)


@pytest.mark.parametrize(
    ("resumed", "told"), [pytest.param((), [2, None, None], id="the-first"), pytest.param((5,), [None], id="resumed")]
)
def test_one_answer_tells_of_the_prompt(resumed: tuple[int, ...], told: list[int | None]) -> None:
    asked = a_request(SamplingParams(temperature=1.0, prompt_logprobs=2), answers=len(told), resumed=resumed)

    assert [each.prompt_logprobs for each in settle(asked, PLAIN)] == told
