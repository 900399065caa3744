"""Answers of a real server have the form that their requests ask for."""

import json
import re

import jsonschema
import pytest

from tests.integration.client import RequestFailed, generate, joined
from tests.integration.serving import Serving

pytestmark = pytest.mark.integration

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "free": {"type": "boolean"}},
    "required": ["name", "free"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False, "whitespace_pattern": ""},
}
THE_SCHEMA = {"guided_decoding_guide_type": "json_schema", "guided_decoding_guide": json.dumps(SCHEMA)}


async def test_an_answer_follows_its_schema(serving: Serving) -> None:
    responses = await generate(serving.grpc, text_input="A licence:", max_tokens=60, **THE_SCHEMA)

    jsonschema.validate(json.loads("".join(response.text for response in responses)), SCHEMA)
    assert responses[-1].finish_reason == "stop"


async def test_several_answers_follow_one_expression(serving: Serving) -> None:
    responses = await generate(
        serving.grpc,
        text_input="A version:",
        max_tokens=20,
        temperature=1.0,
        num_return_sequences=4,
        guided_decoding_guide_type="regex",
        guided_decoding_guide=r"v[0-9]\.[0-9]{1,3}",
        stream=False,
    )

    assert len(responses) == 4
    assert all(re.fullmatch(r"v[0-9]\.[0-9]{1,3}", response.text) for response in responses)


async def test_a_guided_answer_goes_on_elsewhere(serving: Serving) -> None:
    asked = {"text_input": "A licence:", "max_tokens": 60, "temperature": 0.8, **THE_SCHEMA}
    whole = joined(await generate(serving.grpc, **asked))

    for cut in (1, len(whole) // 2, len(whole) - 1):
        assert joined(await generate(serving.grpc, **asked, resume_ids=list(whole[:cut]))) == whole[cut:]


@pytest.mark.parametrize(
    ("kind", "guide", "sentence"),
    [
        pytest.param("json_schema", '{"type": "thing"}', "Invalid type: thing", id="no-schema"),
        pytest.param("xml", "<a/>", "guide type 'xml' is unknown: use json", id="no-kind"),
        pytest.param("regex", "a" * 100_000, "has 100000 bytes, at most 65536 may be", id="too-long"),
        pytest.param(
            "ebnf_grammar",
            "start: r0\n" + "".join(f"r{n}: r{n + 1}\n" for n in range(4000)) + 'r4000: "a"',
            "nested too deeply",
            id="crashes-the-library",
        ),
    ],
)
async def test_a_guide_that_cannot_be_followed_is_refused(
    serving: Serving, kind: str, guide: str, sentence: str
) -> None:
    with pytest.raises(RequestFailed, match=f"^InvalidRequest: .*{sentence}"):
        await generate(serving.grpc, text_input="a", guided_decoding_guide_type=kind, guided_decoding_guide=guide)
