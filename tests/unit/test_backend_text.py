"""Text comes in whole characters, ends before stop words, and joined is the text of all tokens."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from nemotron_backend.answer import Answer
from nemotron_backend.detokenize import Detokenizer
from nemotron_backend.request import GenerationRequest
from nemotron_backend.stop_words import StopWords
from nemotron_runtime import SamplingParams

pytestmark = pytest.mark.unit


def byte_level() -> Tokenizer:
    """Token n is byte n, the hardest case: every character beyond ASCII takes several tokens."""
    alphabet = _byte_letters()
    tokenizer = Tokenizer(models.BPE(vocab={letter: byte for byte, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _byte_letters() -> list[str]:
    """The letter by which byte-level tokenizers write each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(256) if byte not in printable)
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


BYTE_LEVEL = byte_level()


def pieces(groups: list[list[int]]) -> list[str]:
    detokenizer = Detokenizer(lambda ids: str(BYTE_LEVEL.decode(list(ids))))
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


def an_answer(*stop_words: str, prompt: str = "Q:", echo: bool = False) -> Answer:
    request = GenerationRequest(prompt, SamplingParams(), stop_words=stop_words, echo_prompt=echo)
    return Answer(request, len(prompt), lambda ids: str(BYTE_LEVEL.decode(list(ids))))


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
