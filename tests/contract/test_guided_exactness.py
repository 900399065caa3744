"""A guide changes no promise of tier E1: the same tokens alone, in a crowd, after a preemption, and with drafts."""

import json
import random
import shutil
from pathlib import Path

import jsonschema
import pytest

from nemotron_runtime import Guide, SamplingParams, open_engine, pack
from tests.builders.company import Ask, Guesser, Room, serve
from tests.builders.streams import Stream, start
from tests.contract.test_exactness import TRAINED, alone

pytestmark = pytest.mark.contract

FIRST_BYTE = 16
VOCABULARY = 272
THOUGHTS = (12, 13)

SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 12},
        "version": {"enum": [1, 2, 3]},
        "free": {"type": "boolean"},
    },
    "required": ["title", "version", "free"],
    "additionalProperties": False,
    # The trained model would spend its tokens on blanks.
    "x-guidance": {"whitespace_flexible": False, "whitespace_pattern": ""},
}
GUIDES = [
    Guide("json_schema", json.dumps(SCHEMA), *THOUGHTS),
    Guide("regex", r"[A-Z][a-z]{2,9}( [a-z]{1,9}){1,5}\.", *THOUGHTS),
    Guide("choice", '["GNU General Public License", "GNU Lesser General Public License", "none"]', *THOUGHTS),
    Guide("ebnf_grammar", 'root ::= "You " ("may" | "must") " " word{1,4}\nword ::= [a-z]{1,6} " "', *THOUGHTS),
]


def tokens(text: str) -> tuple[int, ...]:
    return tuple(FIRST_BYTE + byte for byte in text.encode())


def text(answer: list[int]) -> str:
    return bytes(token - FIRST_BYTE for token in answer if token >= FIRST_BYTE).decode()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained model, with its tokenizer beside it as in a sealed engine."""
    directory = tmp_path_factory.mktemp("engine")
    pack(TRAINED, directory, dtype="FP32", max_batch=4, max_sequence_tokens=240)
    shutil.copy(TRAINED / "tokenizer.json", directory)
    return directory


def a_guided_crowd() -> list[Ask]:
    prompt = tokens((TRAINED / "chat_template.jinja").read_text()[:90])
    return [
        Ask(
            (*prompt[: 90 - 3 * place], *tokens(f"{place} is")),
            60,
            place % 3,
            0.9 * (place % 2),
            place,
            GUIDES[place % len(GUIDES)] if place % 5 else None,
        )
        for place in range(12)
    ]


@pytest.fixture(scope="module")
def expected(engine: Path) -> list[list[int]]:
    return alone(engine, a_guided_crowd(), {})


def test_a_crowd_and_wrong_drafts_change_no_token(engine: Path, expected: list[list[int]]) -> None:
    asks = a_guided_crowd()
    answers = {ask.prompt: answer for ask, answer in zip(asks, expected, strict=True)}
    guesser = Guesser(answers, random.Random(3), VOCABULARY)

    crowded, recorder, served = serve(engine, asks, Room(pages=24, prefill_tokens=40), {}, guesser, exact=True)

    stats = served.stats()
    assert crowded == expected
    assert recorder.differing == []
    assert min(stats.preemptions, stats.accepted_tokens, stats.drafted_tokens - stats.accepted_tokens) > 0


def test_the_models_own_drafts_change_no_token(engine: Path, expected: list[list[int]]) -> None:
    crowded, _, served = serve(engine, a_guided_crowd(), Room(), {}, "module", exact=True)

    assert crowded == expected
    assert served.stats().accepted_tokens > 0


def test_finished_answers_follow_their_guides(expected: list[list[int]]) -> None:
    found = [(ask.guide, text(answer)) for ask, answer in zip(a_guided_crowd(), expected, strict=True)]
    schemas = [json.loads(answer) for guide, answer in found if guide == GUIDES[0] and answer.endswith("}")]
    choices = [answer for guide, answer in found if guide == GUIDES[2]]

    for each in schemas:
        jsonschema.validate(each, SCHEMA)
    assert len(schemas) > 0
    assert set(choices) <= set(json.loads(GUIDES[2].text))


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.kind)
def test_an_answer_cut_after_any_token_goes_on_the_same(engine: Path, guide: Guide) -> None:
    sampling = SamplingParams(max_tokens=40, temperature=0.7, seed=5, frequency_penalty=0.2, logprobs=1, guide=guide)
    served = open_engine(engine, threads=1, exact=True)
    whole = start(served, tokens("This is"), sampling)
    answer = whole.tokens()

    for cut in range(1, len(answer), 2):
        rest = Stream()
        served.submit(tokens("This is"), sampling, rest.arriving.put, resumed=answer[:cut])
        assert rest.tokens() == answer[cut:]
        assert [event.logprobs for event in rest.events] == [event.logprobs for event in whole.events[cut:]]
        assert rest.events[-1].finish_reason == whole.events[-1].finish_reason
    served.close()


def test_a_guide_that_leads_nowhere_ends_its_request_alone(engine: Path) -> None:
    served = open_engine(engine, threads=1)
    lost = start(served, tokens("Q"), SamplingParams(bad_words=(tokens("b"),), guide=Guide("regex", "ab")))
    other = start(served, tokens("Q"), SamplingParams(guide=Guide("choice", '["yes"]')))

    last = lost.finish()

    assert (last.finish_reason, last.token) == ("error", None)
    assert "ban every token that the guide allows" in str(last.error)
    assert text(other.tokens()) == "yes"
    assert other.finish().finish_reason == "stop"
    served.close()
