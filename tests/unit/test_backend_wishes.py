"""Parameters become wishes, or a sentence that says what to change."""

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api.errors import InvalidRequest
from nemotron_api.parameters import PARAMETERS
from nemotron_backend import bounds, wishes
from nemotron_backend.admission import LONGEST_HINT_SECONDS, Pace, refusal
from nemotron_backend.wishes import Wishes

pytestmark = pytest.mark.unit


def test_known_parameters_are_wishes_and_the_others_are_left() -> None:
    given = {
        "client": "a",
        "request_priority": -3,
        "salt": "s",
        "stream_interval": 8,
        "timeout": 2_500_000,
        "traceparent": "00-1-2-01",
        "tracestate": "x=1",
        "temprature": 1,
    }

    found, rest = wishes.take(given)

    assert found == Wishes("a", -3, "s", 8, 2.5, "00-1-2-01", "x=1")
    assert rest == {"temprature": 1}


def test_what_is_understood_is_what_the_reference_lists() -> None:
    assert set(wishes.RULES) == {parameter.name for parameter in PARAMETERS}


def test_without_parameters_there_are_no_wishes() -> None:
    assert wishes.take({}) == (Wishes(), {})
    assert wishes.take({"timeout": 0})[0].timeout_seconds is None


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        pytest.param("client", 7, "client must be a text of at most 256 whole characters; it is 7", id="client-number"),
        pytest.param("client", "x" * 257, "client must be a text of at most 256", id="client-too-long"),
        pytest.param("salt", True, "salt must be a text", id="salt-bool"),
        pytest.param("request_priority", 1001, "from -1000 to 1000; higher goes first; it is 1001", id="priority"),
        pytest.param("request_priority", True, "request_priority must be a whole number", id="priority-bool"),
        pytest.param("request_priority", "3", "request_priority must be .* it is '3'", id="priority-text"),
        pytest.param("request_priority", 0.5, "request_priority must be a whole number", id="priority-fraction"),
        pytest.param("stream_interval", 0, "stream_interval must be a whole number, 1 or more; it is 0", id="interval"),
        pytest.param("timeout", -1, "timeout must be microseconds", id="timeout"),
    ],
)
def test_a_wish_that_cannot_be_is_explained(name: str, value: object, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        wishes.take({name: value})


JSON_SCALARS = st.one_of(st.integers(), st.text(), st.booleans(), st.floats(), st.none())


@given(st.dictionaries(st.one_of(st.sampled_from(sorted(wishes.RULES)), st.text()), JSON_SCALARS))
def test_whatever_a_client_sends_is_understood_or_refused(given: dict[str, object]) -> None:
    with suppress(InvalidRequest):
        found, rest = wishes.take(given)
        assert found.stream_interval >= 1
        assert set(rest) == set(given) - set(wishes.RULES)


def texts(*values: bytes) -> Any:
    return np.array(values, dtype=np.object_)


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        pytest.param({"text_input": texts(b"a" * 2561)}, r"2561 bytes, more than 10 tokens.*2560", id="prompt-bytes"),
        pytest.param({"input_ids": np.zeros(11, np.int32)}, "holds 11 tokens.* may have 10", id="prompt-tokens"),
        pytest.param({"stop_words": texts(*[b"a"] * 65)}, "holds 65 texts, at most 64", id="stop-words"),
        pytest.param({"stop_words": texts(b"a" * 1025)}, "text of 1025 bytes, at most 1024", id="stop-word-bytes"),
        pytest.param({"bad_words": texts(*[b"a"] * 65)}, "bad_words holds 65 texts", id="bad-words"),
        pytest.param({"embedding_bias_words": texts(b"a" * 1025)}, "bias_words holds a text of 1025", id="bias-words"),
        pytest.param({"resume_ids": np.zeros(11, np.int32)}, "resume_ids holds 11 tokens.* may have 10", id="resumed"),
        pytest.param({"logit_bias_ids": np.zeros(1025, np.int32)}, "holds 1025 tokens, at most 1024", id="biases"),
    ],
)
def test_what_is_too_large_is_refused_with_both_numbers(tensors: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        bounds.check(tensors, 10)


def test_what_fits_passes() -> None:
    fitting = {"text_input": texts(b"a" * 2560), "stop_words": texts(*[b"a" * 1024] * 64)}

    bounds.check(fitting, 10)
    bounds.check({"input_ids": np.zeros(10, np.int32), "stop_words": texts()}, 10)


@pytest.mark.parametrize(
    ("limit", "client", "refused"),
    [(None, "a", False), (3, "a", False), (2, "a", True), (2, "b", False), (1, "", True)],
)
def test_a_client_waits_for_its_own_requests_only(limit: int | None, client: str, refused: bool) -> None:
    assert (refusal(limit, client, ["a", "b", "a", ""], asked=1) is not None) is refused


def test_several_answers_count_as_many() -> None:
    assert refusal(4, "a", ["a", "a"], asked=2) is None
    assert str(refusal(4, "a", ["a", "a"], asked=3)).startswith(
        "client 'a' has 2 answers in flight and 3 more asked for, at most 4 may be"
    )
    assert isinstance(refusal(4, "a", [], asked=5), InvalidRequest)


def test_the_pace_is_measured_up_to_now() -> None:
    pace = Pace()
    assert pace.seconds_for(5, 10.0) is None

    for second in (0.0, 1.0, 2.0, 3.0, 4.0):
        pace.ended(second)

    assert pace.seconds_for(5, 4.0) == 5
    assert pace.seconds_for(5, 8.0) == 10
    assert pace.seconds_for(0, 4.0) == 1
    assert pace.seconds_for(10**9, 4.0) == LONGEST_HINT_SECONDS
