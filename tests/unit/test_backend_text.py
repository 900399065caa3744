"""Text comes in whole characters, ends before stop words, and joined is the text of all tokens."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api.tensors import OUTPUTS
from nemotron_backend.answer import Answer
from nemotron_backend.detokenize import Detokenizer
from nemotron_backend.request import GenerationRequest
from nemotron_backend.response import tensors
from nemotron_backend.stop_words import StopWords
from nemotron_runtime import SamplingParams, TokenLogprobs
from tests.builders.byte_level import BYTE_LEVEL, decode

pytestmark = pytest.mark.unit


def pieces(groups: list[list[int]]) -> list[str]:
    detokenizer = Detokenizer(decode)
    return [*(detokenizer.push(group) for group in groups), detokenizer.flush()]


@given(st.text(max_size=60))
def test_a_text_arrives_unharmed_byte_by_byte(text: str) -> None:
    encoded = text.encode(errors="replace")

    assert "".join(pieces([[byte] for byte in encoded])) == encoded.decode()


@given(st.text(alphabet="é∎😀a", max_size=60))
def test_no_piece_holds_half_a_character(text: str) -> None:
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces([[byte] for byte in text.encode()]))


@given(st.lists(st.lists(st.integers(0, 255), max_size=5), max_size=60))
def test_pieces_joined_are_the_text_of_all_tokens(groups: list[list[int]]) -> None:
    whole = BYTE_LEVEL.decode([token for group in groups for token in group])

    assert "".join(pieces(groups)) == whole


def test_an_answer_that_is_no_text_costs_no_more_per_token_as_it_grows() -> None:
    longest = 0

    def decode(ids: Sequence[int]) -> str:
        nonlocal longest
        longest = max(longest, len(ids))
        return str(BYTE_LEVEL.decode(list(ids)))

    detokenizer = Detokenizer(decode)
    for _ in range(500):
        detokenizer.push([0xFF])

    assert longest <= 33


@given(st.lists(st.text(alphabet="ab", max_size=3), max_size=12), st.text(alphabet="ab", min_size=1, max_size=4))
def test_text_ends_before_a_stop_word_however_it_is_cut(parts: list[str], word: str) -> None:
    stop_words = StopWords([word])

    text = "".join([*(stop_words.push(part) for part in parts), stop_words.flush()])

    assert text == "".join(parts).split(word)[0]
    assert stop_words.found == (word in "".join(parts))


def test_only_an_end_that_may_become_a_stop_word_waits() -> None:
    stop_words = StopWords(["###", "\n\nHuman"])

    assert stop_words.push("one #") == "one "
    assert stop_words.push("# two\n") == "## two"
    assert stop_words.push("\nHumble") == "\n\nHumble"
    assert not stop_words.found


def an_answer(*stop_words: str, prompt: str = "Q:", echo: bool = False, **sampling: Any) -> Answer:
    request = GenerationRequest(prompt, SamplingParams(**sampling), stop_words=stop_words, echo_prompt=echo)
    return Answer(request, len(prompt), decode)


def test_chunks_carry_what_is_new() -> None:
    answer = an_answer(echo=True)

    answer.extend(b"ab")
    first = answer.take()
    answer.extend(b"c", "length")
    last = answer.take()

    assert (first.text, first.token_ids, first.finish_reason, first.completion_tokens) == ("Q:ab", (97, 98), "", 2)
    assert (last.text, last.token_ids, last.finish_reason, last.completion_tokens) == ("c", (99,), "length", 3)
    assert last.prompt_tokens == 2


@given(st.lists(st.integers(1, 4), min_size=1, max_size=8))
def test_an_answer_does_not_depend_on_how_tokens_were_gathered(cuts: list[int]) -> None:
    tokens, answer = list(b"one two STOP three"), an_answer("STOP")

    for cut in cuts:
        answer.extend(tokens[:cut])
        tokens = tokens[cut:]
    answer.extend(tokens, "length")
    chunk = answer.take()

    assert (chunk.text, bytes(chunk.token_ids), chunk.finish_reason) == ("one two ", b"one two STOP", "stop")


def test_an_end_that_only_began_like_a_stop_word_is_returned() -> None:
    answer = an_answer("STOP")

    answer.extend(b"no ST", "length")

    assert answer.take().text == "no ST"


@given(st.lists(st.text(alphabet="ab", max_size=3), max_size=12), st.text(alphabet="ab", min_size=1, max_size=4))
def test_text_ends_after_a_stop_word_that_is_to_be_included(parts: list[str], word: str) -> None:
    stop_words = StopWords([word], included=True)

    text = "".join([*(stop_words.push(part) for part in parts), stop_words.flush()])

    before, found, _ = "".join(parts).partition(word)
    assert text == before + found


def test_a_stop_word_is_looked_for_once_there_are_min_tokens() -> None:
    answer = an_answer("ab", min_tokens=4)

    answer.extend(b"ababxabx")

    # The fourth token is the first that may end a stop word, and what stood before it is gone by.
    assert answer.take().text == "ababx"
    assert answer.finish_reason == "stop"


def some_logprobs(*chosen: float) -> list[TokenLogprobs]:
    return [TokenLogprobs(each) for each in chosen]


def test_log_probabilities_belong_to_the_tokens_beside_them() -> None:
    answer = an_answer("b", logprobs=0)

    answer.extend(b"xa", logprobs=some_logprobs(-1.0, -2.0))
    first = answer.take()
    answer.extend(b"abc", "length", logprobs=some_logprobs(-4.0, -8.0, -16.0))
    last = answer.take()

    assert (first.logprobs, first.cum_log_probs) == ((*some_logprobs(-1.0, -2.0),), -3.0)
    assert (last.logprobs, last.cum_log_probs) == ((*some_logprobs(-4.0, -8.0),), -15.0)
    assert len(last.token_ids) == 2


def test_who_asks_for_no_log_probabilities_and_one_answer_hears_of_neither() -> None:
    answer = an_answer()
    answer.extend(b"x")

    assert tensors(answer.take()).keys() == {
        "text_output",
        "output_ids",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
    }


def test_every_output_is_of_the_shape_the_table_says() -> None:
    request = GenerationRequest("Q", SamplingParams(logprobs=2), answers=3)
    answer = Answer(request, 1, decode, 2)
    answer.extend(b"ab", logprobs=[TokenLogprobs(-1.0, ((97, -1.0), (4, -2.0)))] * 2)
    answer.tell_prompt((TokenLogprobs(-3.0, ((5, -0.5),)),))

    written = tensors(answer.take())

    assert written.keys() == {output.name for output in OUTPUTS}
    assert all(array.ndim == len(output.dims) for output in OUTPUTS for array in [written[output.name]])
    assert written["sequence_index"].tolist() == [2]
    assert written["top_ids"].tolist() == [[97, 4]] * 2
    assert written["top_log_probs"].tolist() == [[-1.0, -2.0]] * 2
    assert written["cum_log_probs"].tolist() == [-2.0]
    assert written["prompt_log_probs"].tolist() == [-3.0]
    assert written["prompt_top_ids"].tolist() == [[5]]
    assert written["prompt_top_log_probs"].tolist() == [[-0.5]]


def test_what_is_told_of_the_prompt_is_told_once() -> None:
    answer = an_answer()
    answer.tell_prompt((TokenLogprobs(-3.0),))
    answer.tell_prompt(None)

    assert answer.take().prompt_logprobs == (TokenLogprobs(-3.0),)
    assert answer.take().prompt_logprobs is None


def test_an_answer_that_gathered_nothing_has_empty_outputs() -> None:
    written = tensors(an_answer(logprobs=1).take())

    assert written["output_ids"].size == written["output_log_probs"].size == 0
