"""A request's tensors become a GenerationRequest, or a sentence that says what to change."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nemotron_api.errors import InvalidRequest
from nemotron_api.tensors import ALIASES, ANY, INPUTS, Tensor
from nemotron_backend.request import GenerationRequest, parse
from nemotron_runtime import Guide, SamplingParams

pytestmark = pytest.mark.unit

NUMPY = {"BYTES": np.object_, "BOOL": np.bool_, "INT32": np.int32, "UINT64": np.uint64, "FP32": np.float32}


def tensors(**values: Any) -> dict[str, NDArray[Any]]:
    """Arrays as the server hands them over: one dimension, texts as bytes."""
    datatypes = {tensor.name: NUMPY[tensor.datatype] for tensor in INPUTS}
    return {
        name: np.array(value if isinstance(value, list) else [value], dtype=datatypes[name])
        for name, value in values.items()
    }


def test_what_is_absent_has_its_default() -> None:
    assert parse(tensors(text_input=b"hi"), {}) == GenerationRequest(prompt="hi", sampling=SamplingParams())


def test_everything_that_is_given_is_read() -> None:
    given_tensors = tensors(
        input_ids=[3, 1, 2],
        max_tokens=70,
        min_tokens=7,
        stream=True,
        num_return_sequences=2,
        temperature=0.5,
        top_k=3,
        top_p=0.25,
        min_p=0.125,
        seed=2**64 - 1,
        repetition_penalty=1.25,
        presence_penalty=-0.5,
        frequency_penalty=0.75,
        logit_bias_ids=[4, 5],
        logit_bias_values=[1.5, -1.5],
        embedding_bias_words=[b"no"],
        embedding_bias_weights=[-3.0],
        bad_words=[b"worse", b"worst"],
        stop_words=[b"\n\n", "Ende ∎".encode()],
        include_stop_str_in_output=True,
        end_id=[9, -1],
        ignore_eos=True,
        reasoning_budget=100,
        return_log_probs=True,
        top_n_log_probs=4,
        exclude_input_in_output=False,
        beam_width=1,
    )

    assert parse(given_tensors, {}) == GenerationRequest(
        prompt=(3, 1, 2),
        sampling=SamplingParams(
            max_tokens=70,
            min_tokens=7,
            temperature=0.5,
            top_k=3,
            top_p=0.25,
            min_p=0.125,
            seed=2**64 - 1,
            repetition_penalty=1.25,
            presence_penalty=-0.5,
            frequency_penalty=0.75,
            logit_bias=((4, 1.5), (5, -1.5)),
            stop_ids=frozenset({9}),
            ignore_eos=True,
            logprobs=4,
        ),
        stream=True,
        answers=2,
        stop_words=("\n\n", "Ende ∎"),
        include_stop_words=True,
        echo_prompt=True,
        bad_words=("worse", "worst"),
        bias_words=(("no", -3.0),),
        reasoning_budget=100,
    )


WITHOUT_EFFECT = {"length_penalty", "len_penalty", "pad_id"}
"""Their meaning in the table says so."""

OTHER_THAN_DEFAULT: dict[str, Any] = {"temperature": 0.5, "top_p": 0.5, "min_p": 0.5, "exclude_input_in_output": False}


@pytest.mark.parametrize("tensor", INPUTS, ids=lambda tensor: tensor.name)
def test_every_declared_input_is_understood(tensor: Tensor) -> None:
    """A name in the table that `parse` ignores would be a setting without effect."""
    usual = {"BYTES": b"other", "BOOL": True}.get(tensor.datatype, 2)
    value = OTHER_THAN_DEFAULT.get(tensor.name, usual)
    plain = parse(tensors(text_input=b"a"), {})

    try:
        has_effect = parse(tensors(**{"text_input": b"a", tensor.name: value}), {}) != plain
    except InvalidRequest:
        has_effect = True

    assert has_effect == (tensor.name not in WITHOUT_EFFECT)


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_an_alias_is_the_setting_it_stands_for(alias: str, name: str) -> None:
    value = 3 if name != "num_return_sequences" else 1

    assert parse(tensors(text_input=b"a", **{alias: value}), {}) == parse(tensors(text_input=b"a", **{name: value}), {})
    assert parse(tensors(text_input=b"a", **{name: value, alias: []}), {}) == parse(
        tensors(text_input=b"a", **{name: value}), {}
    )
    with pytest.raises(InvalidRequest, match=f"{alias} is another name of {name}: give one"):
        parse(tensors(text_input=b"a", **{alias: value, name: value}), {})


def test_a_client_that_must_send_every_input_can() -> None:
    """With these the request is the one that gives a prompt alone."""
    neutral: dict[str, Any] = {
        "temperature": 0.0,
        "top_p": 1.0,
        "max_tokens": 16,
        "num_return_sequences": 1,
        "repetition_penalty": 1.0,
        "end_id": -1,
        "reasoning_budget": -1,
        "exclude_input_in_output": True,
        "beam_width": 1,
        "length_penalty": 1.0,
        "guided_decoding_guide_type": b"",
        "guided_decoding_guide": b"",
    }
    every = {tensor.name: neutral.get(tensor.name, [] if tensor.dims == (ANY,) else 0) for tensor in INPUTS}

    assert parse(tensors(**every | {"text_input": b"a"}), {}) == parse(tensors(text_input=b"a"), {})
    assert parse(tensors(**every | {"text_input": b"", "input_ids": [7]}), {}) == parse(tensors(input_ids=[7]), {})


@pytest.mark.parametrize("kind", ["json_schema", "regex", "ebnf_grammar", "choice", "of a new kind"])
def test_a_guide_has_a_kind_and_a_text(kind: str) -> None:
    given = tensors(text_input=b"a", guided_decoding_guide_type=kind.encode(), guided_decoding_guide="é+".encode())

    assert parse(given, {}).sampling.guide == Guide(kind, "é+")


def test_any_json_object_needs_no_text() -> None:
    assert parse(tensors(text_input=b"a", guided_decoding_guide_type=b"json"), {}).sampling.guide == Guide("json")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param({"guided_decoding_guide": b"a"}, "say what kind of guide it is", id="no-kind"),
        pytest.param({"guided_decoding_guide_type": b"regex"}, "'regex' and .* empty: send the guide", id="no-text"),
        pytest.param(
            {"guided_decoding_guide_type": b"regex", "guided_decoding_guide": b"a\xff"},
            "guided_decoding_guide is not valid UTF-8: byte 0xff at offset 1",
            id="no-utf-8",
        ),
    ],
)
def test_half_a_guide_is_refused(given: dict[str, bytes], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        parse(tensors(text_input=b"a", **given), {})


def test_log_probabilities_of_the_prompt_are_asked_for_apart() -> None:
    given = tensors(text_input=b"a", return_prompt_log_probs=True, top_n_prompt_log_probs=3)

    assert parse(given, {}).sampling == SamplingParams(prompt_logprobs=3)
    with pytest.raises(InvalidRequest, match="top_n_prompt_log_probs is 3 and return_prompt_log_probs false"):
        parse(tensors(text_input=b"a", top_n_prompt_log_probs=3), {})


def test_a_resumed_answer_brings_its_tokens() -> None:
    assert parse(tensors(text_input=b"a", resume_ids=[5, 6]), {}).resumed == (5, 6)


@given(st.text(min_size=1))
def test_any_text_is_a_prompt(text: str) -> None:
    # A lone surrogate has no UTF-8 form, so it cannot be sent.
    encoded = text.encode(errors="replace")

    assert parse(tensors(text_input=encoded), {}).prompt == encoded.decode()


@given(st.binary(min_size=1))
def test_any_bytes_are_a_prompt_or_refused(value: bytes) -> None:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        with pytest.raises(InvalidRequest, match="not valid UTF-8"):
            parse(tensors(text_input=value), {})
    else:
        assert parse(tensors(text_input=value), {}).prompt == text


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        pytest.param({}, "neither is there", id="no-prompt"),
        pytest.param({"text_input": b"a", "input_ids": [1]}, "both are there", id="two-prompts"),
        pytest.param({"text_input": b""}, "text_input must hold at least one token", id="empty-text"),
        pytest.param({"input_ids": []}, "input_ids must hold at least one token", id="empty-ids"),
        pytest.param({"text_input": [b"a", b"b"]}, "exactly one value; it holds 2", id="two-texts"),
        pytest.param({"text_input": b"a", "max_tokens": []}, "max_tokens must hold exactly one", id="no-value"),
        pytest.param({"text_input": b"a", "bad_words": [b""]}, "bad_words holds an empty text", id="empty-bad-word"),
        pytest.param({"text_input": b"a", "n": 17}, "from 1 to 16; it is 17", id="too-many-answers"),
        pytest.param({"text_input": b"a", "n": 0}, "num_return_sequences must be from 1", id="no-answers"),
        pytest.param({"text_input": b"a", "n": 2}, "2 answers at temperature 0", id="equal-answers"),
        pytest.param(
            {"text_input": b"a", "n": 2, "temperature": 1.0, "resume_ids": [4]}, "resumed at a time", id="resume-two"
        ),
        pytest.param({"text_input": b"a", "beam_width": 4}, "no beam search; it is 4", id="beams"),
        pytest.param({"text_input": b"a", "top_n_log_probs": 2}, "return_log_probs false", id="top-n-of-nothing"),
        pytest.param({"text_input": b"a", "logit_bias_ids": [2]}, "0 numbers for 1 biases", id="bias-without-number"),
        pytest.param(
            {"text_input": b"a", "embedding_bias_weights": [2.0]}, "1 numbers for 0 biases", id="number-without-bias"
        ),
        pytest.param({"text_input": b"a", "stop_words": [b"x", b""]}, "empty text", id="empty-stop-word"),
        pytest.param({"text_input": b"a", "stop_words": [b"\xff"]}, "stop_words is not valid UTF-8", id="stop-bytes"),
    ],
)
def test_what_is_wrong_is_said(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        parse(tensors(**values), {})


def test_unknown_parameters_are_named() -> None:
    with pytest.raises(InvalidRequest, match="'beam', 'best_of'"):
        parse(tensors(text_input=b"a"), {"best_of": 2, "beam": 1})
