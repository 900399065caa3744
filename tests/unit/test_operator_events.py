"""Events tell of transitions, once."""

import pytest

from nemotron_api import names
from nemotron_api.conditions import Condition, false, merge, true
from nemotron_operator.events import event, turned
from tests.builders.operator import a_body

pytestmark = pytest.mark.unit

STARTING = (
    true(names.ACCEPTED, "Resolved", "…"),
    false(names.WEIGHTS_READY, "Fetching", "…"),
    false(names.READY, "Fetching", "…"),
)
READY = (
    true(names.ACCEPTED, "Resolved", "…"),
    true(names.WEIGHTS_READY, "Verified", "…"),
    true(names.READY, "Serving", "…"),
)


def reasons(old: tuple[Condition, ...], new: tuple[Condition, ...]) -> list[str]:
    return [f"{c.type}/{c.reason}" for c in turned(merge((), old, 1, "then"), new)]


def test_a_new_deployment_tells_of_its_conditions_but_not_that_it_is_not_ready_yet() -> None:
    assert reasons((), STARTING) == ["Accepted/Resolved", "WeightsReady/Fetching"]


def test_nothing_turned_is_nothing_to_tell() -> None:
    assert reasons(STARTING, STARTING) == []
    assert reasons(READY, READY) == []


def test_ready_is_told_when_it_turns_and_not_for_every_reason_on_the_way() -> None:
    assert reasons(STARTING, READY) == ["WeightsReady/Verified", "Ready/Serving"]
    assert reasons(READY, STARTING) == ["WeightsReady/Fetching", "Ready/Fetching"]
    other = (*STARTING[:2], false(names.READY, "Unschedulable", "…"))
    assert reasons(STARTING, other) == []


def test_another_reason_is_a_transition_and_another_message_is_not() -> None:
    failed = (STARTING[0], false(names.WEIGHTS_READY, "ChecksumMismatch", "a.bin"), STARTING[2])
    again = (STARTING[0], false(names.WEIGHTS_READY, "ChecksumMismatch", "a.bin (attempt 2)"), STARTING[2])
    assert reasons(STARTING, failed) == ["WeightsReady/ChecksumMismatch"]
    assert reasons(failed, again) == []


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (false(names.WEIGHTS_READY, "Fetching", "…"), "Normal"),
        (false(names.WEIGHTS_READY, "ChecksumMismatch", "…"), "Warning"),
        (false(names.ACCEPTED, "NameTaken", "…"), "Warning"),
        (false(names.PROGRESSING, "Complete", "…"), "Normal"),
        (true(names.READY, "Serving", "…"), "Normal"),
    ],
)
def test_only_what_is_wrong_is_a_warning(condition: Condition, expected: str) -> None:
    assert event(a_body(), condition, "now")["type"] == expected


def test_an_event_fits_the_api() -> None:
    long = false(names.WEIGHTS_READY, "InternalError", "ü" * 4000)
    made = event(a_body("n" * 40), long, "2026-01-01T00:00:00.000000Z")
    assert len(made["note"].encode()) <= 1024
    assert made["note"].startswith("ü")
    assert len(made["metadata"]["name"]) <= 253
    assert made["regarding"]["uid"] == a_body("n" * 40)["metadata"]["uid"]
    assert made["metadata"]["namespace"] == made["regarding"]["namespace"]


def test_two_events_have_two_names() -> None:
    condition = true(names.READY, "Serving", "…")
    assert event(a_body(), condition, "now")["metadata"] != event(a_body(), condition, "now")["metadata"]
