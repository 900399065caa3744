"""Whatever a guide is, it harms nobody: what cannot be followed is refused in a sentence, the next one is served."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemotron_api.errors import InvalidRequest
from nemotron_runtime import Guide, SamplingParams
from nemotron_runtime.guide_checker import Checker
from nemotron_runtime.guides import MOST_BYTES, LibraryGuides, open_guides
from tests.builders.guided import PROMPT, answer, some_guides

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def guides() -> Iterator[LibraryGuides]:
    opened = some_guides()
    yield opened
    opened.close()


ALL_OF_MANY = json.dumps({"allOf": [{"type": "string", "pattern": f".*{number}"} for number in range(60)]})
CHAIN = "start: r0\n" + "".join(f"r{n}: r{n + 1}\n" for n in range(4000)) + 'r4000: "a"'
REFERENCES = json.dumps(
    {"$ref": "#/$defs/0", "$defs": {**{str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(1900)}, "1900": {}}}
)

REFUSED = [
    pytest.param(Guide("xml", "<a/>"), "guide type 'xml' is unknown: use json, json_schema, regex,", id="unknown-kind"),
    pytest.param(Guide("json_schema", " " * 2**20), f"1048576 bytes, at most {MOST_BYTES}", id="a-megabyte"),
    pytest.param(Guide("json_schema", "{"), "EOF while parsing", id="no-json"),
    pytest.param(Guide("json_schema", "[1]"), "Expecting object schema", id="no-schema"),
    pytest.param(Guide("json_schema", '{"type": "thing"}'), "Invalid type: thing", id="no-type"),
    pytest.param(Guide("json_schema", '{"type": "array", "uniqueItems": true}'), "uniqueItems", id="not-implemented"),
    pytest.param(Guide("json_schema", '{"$ref": "#/$defs/a"}'), "no json_schema that can be", id="no-such-reference"),
    pytest.param(Guide("json_schema", '{"$ref": "#"}'), "no text goes on from here", id="a-reference-to-itself"),
    pytest.param(Guide("json_schema", '{"$ref": "http://localhost/a"}'), "not fetch", id="a-reference-elsewhere"),
    pytest.param(Guide("json_schema", '{"enum": []}'), "Unsatisfiable", id="nothing-fits"),
    pytest.param(Guide("json_schema", '{"items":' * 5000 + "true" + "}" * 5000), "recursion limit", id="deep-json"),
    pytest.param(Guide("json_schema", ALL_OF_MANY), "takes longer than 2 s to compile", id="hangs-the-library"),
    pytest.param(Guide("json_schema", REFERENCES), "nested too deeply", id="a-chain-of-references"),
    pytest.param(Guide("ebnf_grammar", CHAIN), "nested too deeply", id="crashes-the-library"),
    pytest.param(Guide("ebnf_grammar", "root ::= other"), "Rule 'other' not found", id="no-such-rule"),
    pytest.param(Guide("ebnf_grammar", "root ::= " + "(" * 30000), "recursion", id="deep-grammar"),
    pytest.param(Guide("ebnf_grammar", "start: A\nA: /.*a/ & /.*b/"), "& .intersection", id="an-intersection"),
    pytest.param(Guide("ebnf_grammar", "start: A\nA: ~/a/"), "~ .intersection or complement", id="a-complement"),
    pytest.param(Guide("regex", "(a"), "unclosed group", id="no-regex"),
    pytest.param(Guide("regex", "(?=a)b"), "look-around", id="look-ahead"),
    pytest.param(Guide("choice", "yes, no"), "Expecting value", id="no-list"),
    pytest.param(Guide("choice", "[]"), "a JSON list of texts", id="an-empty-list"),
    pytest.param(Guide("choice", '["a", 1]'), "a JSON list of texts", id="no-texts"),
]


@pytest.mark.parametrize(("guide", "sentence"), REFUSED)
def test_a_guide_that_cannot_be_followed_is_refused(guides: LibraryGuides, guide: Guide, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence) as refused:
        guides.grammar(SamplingParams(guide=guide), PROMPT, ())

    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500
    assert answer(guides, SamplingParams(guide=Guide("choice", '["yes"]'))).text == "yes"


@pytest.mark.parametrize(
    "text",
    [
        "(a+)+b",
        "(.*a){30}b",
        ".*" * 20,
        r"\p{L}{1,500}",
        "[ab]*a[ab]{20}",
        "(a|b|ab)*c",
        "(x+x+)+y",
    ],
)
def test_an_expression_that_is_a_catastrophe_to_others_is_followed_or_ends_in_a_sentence(
    guides: LibraryGuides, text: str
) -> None:
    made = answer(guides, SamplingParams(max_tokens=30, temperature=1.0, guide=Guide("regex", text)))

    assert made.reason in ("stop", "length") or made.reason.startswith("the guide cannot be followed any further")


def test_operators_in_texts_and_expressions_are_no_operators(guides: LibraryGuides) -> None:
    grammar = 'start: "&" /[~]x/ // a & b\n'

    assert answer(guides, SamplingParams(guide=Guide("ebnf_grammar", grammar))).text == "&~x"


def test_a_checker_that_was_ended_is_started_again() -> None:
    checker = Checker(seconds=0.2)
    try:
        for _ in range(2):
            with pytest.raises(InvalidRequest, match=r"longer than 0\.2 s"):
                checker.grammar("json_schema", ALL_OF_MANY)
        assert "regex" in checker.grammar("regex", "a")
    finally:
        checker.close()


def test_a_checker_whose_process_was_killed_serves_the_next_guide() -> None:
    checker = Checker()
    try:
        checker.grammar("regex", "a")
        assert checker._process is not None
        checker._process.kill()
        checker._process.wait()
        with pytest.raises(InvalidRequest, match="nested too deeply, or takes longer"):
            checker.grammar("regex", "b")
        assert "regex" in checker.grammar("regex", "b")
    finally:
        checker.close()


def test_an_engine_without_a_tokenizer_follows_no_guide(tmp_path: Path) -> None:
    guides = open_guides(tmp_path, 100, frozenset({1}))

    with pytest.raises(InvalidRequest, match=r"it has no tokenizer.json: leave the guide out"):
        guides.grammar(SamplingParams(guide=Guide("json")), PROMPT, ())


def test_a_guide_is_compiled_once(guides: LibraryGuides, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Guide] = []
    compile_ = LibraryGuides._compile

    def counted(self: LibraryGuides, guide: Guide) -> object:
        compiled.append(guide)
        return compile_(self, guide)

    monkeypatch.setattr(LibraryGuides, "_compile", counted)
    for number in (1, 2, 1, 1, 2):
        answer(guides, SamplingParams(max_tokens=4, guide=Guide("regex", f"once{number}")))

    assert [guide.text for guide in compiled] == ["once1", "once2"]
