"""Every way a build can end has an exit code and a termination message that Kubernetes keeps whole."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api.build import TERMINATION_MESSAGE_BYTES, Failure, Success
from nemotron_api.errors import ChecksumMismatch, DoesNotFit, NemotronError, VolumeFull
from nemotron_build.outcome import exit_code, failure_message, named, success_message

pytestmark = pytest.mark.unit


def tree(root: type[NemotronError] = NemotronError) -> Iterator[type[NemotronError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("error", list(tree()), ids=lambda error: error.__name__)
def test_every_error_ends_badly_and_tells_its_reason(error: type[NemotronError]) -> None:
    failed = error("do this instead")

    assert 1 <= exit_code(failed) <= 255
    assert Failure.model_validate_json(failure_message(failed)) == Failure(
        reason=error.reason, message="do this instead"
    )


def test_different_reasons_of_a_build_have_different_exit_codes() -> None:
    assert exit_code(ChecksumMismatch("")) != exit_code(VolumeFull("")) != exit_code(NemotronError(""))


@given(st.text(max_size=6000))
def test_a_text_is_kept_or_cut_between_two_characters(text: str) -> None:
    message = failure_message(VolumeFull(text))

    assert len(message) <= TERMINATION_MESSAGE_BYTES
    kept = json.loads(message)["message"]
    whole = text.encode(errors="replace").decode()
    assert kept == whole or (kept.endswith("…") and whole.startswith(kept[:-1]))


@pytest.mark.parametrize("character", ["x", "é", "語", "😀", '"', "\n", "\x00"])
def test_a_megabyte_of_text_fills_the_message_and_no_more(character: str) -> None:
    message = failure_message(VolumeFull(character * 1_000_000))

    assert json.loads(message)["reason"] == "VolumeFull"
    assert TERMINATION_MESSAGE_BYTES - 8 <= len(message) <= TERMINATION_MESSAGE_BYTES


def test_a_file_name_that_is_no_text_does_not_break_the_message() -> None:
    message = failure_message(VolumeFull(b"caf\xe9".decode(errors="surrogateescape")))

    assert json.loads(message)["message"] == "caf?"


@pytest.mark.parametrize(
    ("error", "reason", "says"),
    [
        (ChecksumMismatch("as it is"), "ChecksumMismatch", "as it is"),
        (MemoryError(), "DoesNotFit", "give the Job more"),
        (ZeroDivisionError("division by zero"), "InternalError", "ZeroDivisionError: division by zero"),
    ],
)
def test_what_has_no_name_gets_one(error: Exception, reason: str, says: str) -> None:
    assert named(error).reason == reason
    assert says in str(named(error))


def test_running_out_of_memory_has_the_class_that_says_so() -> None:
    assert isinstance(named(MemoryError()), DoesNotFit)


def test_a_record_too_large_for_the_message_stays_in_the_manifest() -> None:
    success = Success(fingerprint="f" * 64, manifest_sha256="a" * 64, digest="d", bytes=1, seconds=2.5, record={"n": 1})
    large = success.model_copy(update={"record": {"tokens": list(range(4000))}})

    assert Success.model_validate_json(success_message(success)) == success
    assert Success.model_validate_json(success_message(large)) == success.model_copy(update={"record": {}})
