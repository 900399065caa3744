"""A request's tensors become a GenerationRequest, or a sentence that says what to change."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from nemotron_api.errors import InvalidRequest
from nemotron_api.tensors import INPUTS
from nemotron_backend.request import GenerationRequest, parse
from nemotron_runtime import SamplingParams

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
        max_tokens=7,
        stream=True,
        temperature=0.5,
        top_k=3,
        top_p=0.25,
        seed=2**64 - 1,
        stop_words=[b"\n\n", "Ende ∎".encode()],
        ignore_eos=True,
        exclude_input_in_output=False,
    )

    assert parse(given_tensors, {}) == GenerationRequest(
        prompt=(3, 1, 2),
        sampling=SamplingParams(max_tokens=7, temperature=0.5, top_k=3, top_p=0.25, seed=2**64 - 1, ignore_eos=True),
        stream=True,
        stop_words=("\n\n", "Ende ∎"),
        echo_prompt=True,
    )


def test_every_declared_input_is_understood() -> None:
    """A name in the table that `parse` ignores would be a setting without effect."""
    known = parse.__globals__["SAMPLING"]
    read = {"text_input", "input_ids", "stream", "stop_words", "exclude_input_in_output", *known}

    assert read == {tensor.name for tensor in INPUTS}


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
        pytest.param({"text_input": b"a", "max_tokens": 0}, "max_tokens must be at least 1; it is 0", id="zero"),
        pytest.param({"text_input": b"a", "temperature": float("nan")}, "temperature .* it is nan", id="nan"),
        pytest.param({"text_input": b"a", "temperature": float("inf")}, "temperature .* it is inf", id="infinite"),
        pytest.param({"text_input": b"a", "top_p": float("nan")}, "top_p .* it is nan", id="top-p-nan"),
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
