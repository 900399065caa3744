"""The demo is trained on the licences' own words, and measured on words it was not trained on."""

import re
from pathlib import Path

import pytest

from examples.tiny import corpus

pytestmark = pytest.mark.contract


@pytest.fixture(scope="module")
def text() -> corpus.Corpus:
    return corpus.read()


def test_no_run_of_twelve_held_out_words_is_trained_on(text: corpus.Corpus) -> None:
    trained = [*text.passages, *(answer for _, _, answer in text.conversations)]

    assert text.held_out
    assert not set().union(*map(corpus.runs, text.held_out)) & set().union(*map(corpus.runs, trained))


def test_every_answer_stands_in_the_licences(text: corpus.Corpus) -> None:
    def letters(string: str) -> str:
        return re.sub(r"[^a-z]", "", string.lower())

    whole = letters("".join(text.passages))

    assert len(text.conversations) > 100
    assert [answer for _, _, answer in text.conversations if letters(answer) not in whole] == []


def test_the_prose_is_unwrapped_and_has_no_indentation(text: corpus.Corpus) -> None:
    for passage in text.passages:
        assert not re.search(r"^\s|  |[^\n]\n[^\n]", passage)
        assert passage.isascii()


def test_a_missing_licence_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Apache-2\.0"):
        corpus.read(tmp_path)
