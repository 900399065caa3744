"""What a status write holds, and when it is worth one."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api import names
from nemotron_api.conditions import Condition, false, merge, true
from nemotron_operator.report import is_stage, merge_patch, new_status

pytestmark = pytest.mark.unit

scalars = st.integers() | st.text(max_size=3) | st.booleans() | st.floats(allow_nan=False)
# A status has no nulls: in a merge patch null means absent.
values = st.recursive(
    scalars | st.lists(scalars, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


def rfc_7386(target: Any, patch: Any) -> Any:
    """MergePatch as the RFC's pseudocode has it."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = rfc_7386(result.get(name), value)
    return result


@given(old=objects, new=objects)
def test_applying_the_patch_gives_the_new_status(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert rfc_7386(old, merge_patch(old, new)) == new


@given(same=objects)
def test_nothing_changed_is_nothing_to_write(same: dict[str, Any]) -> None:
    assert merge_patch(same, same) == {}


@given(old=objects, new=objects)
def test_the_patch_names_only_what_differs(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert all(old.get(key) != new.get(key) for key in merge_patch(old, new))


READY = true(names.READY, "Serving", "A token came.")
PENDING = false(names.READY, "PodsPending", "Pods start.")


class TestMerge:
    def test_a_new_message_keeps_the_time_of_the_transition(self) -> None:
        old = merge((), [PENDING], 1, "then")
        again = false(names.READY, "LoadingModel", "Pods load.")
        assert merge(old, [again], 2, "now")[0]["lastTransitionTime"] == "then"
        assert merge(old, [again], 2, "now")[0]["observedGeneration"] == 2

    def test_a_new_status_is_a_transition(self) -> None:
        assert merge(merge((), [PENDING], 1, "then"), [READY], 1, "now")[0]["lastTransitionTime"] == "now"

    def test_a_condition_that_does_not_apply_any_more_is_absent(self) -> None:
        old = merge((), [true(names.SCALING_ACTIVE, "Steady", "…"), READY], 1, "then")
        assert [c["type"] for c in merge(old, [READY], 1, "now")] == [names.READY]

    def test_the_same_again_is_the_same_again(self) -> None:
        status = new_status({}, (PENDING,), {"replicas": 1}, 3, "then")
        assert merge_patch(status, new_status(status, (PENDING,), {"replicas": 1}, 3, "now")) == {}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param((PENDING,), (READY,), True, id="ready-is-news"),
        pytest.param((READY,), (PENDING,), True, id="not-ready-any-more-is-news"),
        pytest.param((PENDING,), (false(names.READY, "LoadingModel", "…"),), False, id="another-reason-is-progress"),
        pytest.param(
            (true(names.PROGRESSING, "Scaling", "…"),),
            (false(names.PROGRESSING, "Complete", "…"),),
            False,
            id="scaling-is-progress",
        ),
        pytest.param((), (false(names.ACCEPTED, "NameTaken", "…"),), True, id="refused-is-news"),
    ],
)
def test_stages_are_written_at_once_and_progress_may_wait(
    before: tuple[Condition, ...], after: tuple[Condition, ...], expected: bool
) -> None:
    old = new_status({}, before, {}, 1, "then")
    assert is_stage(old, new_status(old, after, {}, 1, "now")) is expected


def test_an_answer_to_a_new_generation_is_written_at_once() -> None:
    old = new_status({}, (READY,), {}, 1, "then")
    assert is_stage(old, new_status(old, (READY,), {}, 2, "now"))
