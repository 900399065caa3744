"""The list of cases: what is measured, and against which targets."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cases import cases, log_uniform, target
from benchmarks.profile import OUTSIDE, Operation, group_of, shares
from benchmarks.runtime import DECODE, FIRST, agreement

pytestmark = pytest.mark.unit


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in cases()]
    assert len(set(names)) == len(names)


def test_both_shapes_are_measured_in_both_types_at_every_number_of_streams() -> None:
    found = {(case.shape.name, case.dtype, case.concurrent) for case in cases() if not case.is_mixed}
    assert found == {
        (shape, dtype, n) for shape in ("tiny", "wide") for dtype in ("FP32", "BF16") for n in (1, 8, 32, 128)
    }


def test_mixed_requests_are_four_times_as_many_as_run_and_the_same_every_time() -> None:
    mixed = [case for case in cases() if case.is_mixed and case.shape.name == "tiny"]
    assert {len(case.lengths) for case in mixed} == {4 * case.concurrent for case in mixed} == {128}
    assert len({case.lengths for case in mixed}) == 1


@pytest.mark.parametrize(
    ("name", "aim"),
    [
        ("tiny FP32, 1 ×", 4.0),
        ("tiny BF16, 32 ×", 3.0),
        ("tiny FP32, mixed", 5.0),
        ("wide BF16, 1 ×", 1.15),
        ("wide FP32, 32 ×", 1.5),
        ("tiny FP32, 8 ×", None),
    ],
)
def test_targets_are_those_that_were_set(name: str, aim: float | None) -> None:
    (case,) = (case for case in cases() if case.name.startswith(name))
    assert target(case) == aim


@given(st.integers(1, 100), st.integers(0, 1000), st.integers())
def test_a_log_uniform_length_is_within_its_bounds(least: int, more: int, seed: int) -> None:
    assert least <= log_uniform(least, least + more, random.Random(seed)) <= least + more


def test_every_doubling_of_a_log_uniform_length_is_as_likely() -> None:
    chance = random.Random(0)
    drawn = [log_uniform(16, 256, chance) for _ in range(4000)]
    for low in (16, 32, 64, 128):
        assert sum(low <= each < 2 * low for each in drawn) == pytest.approx(1000, rel=0.15)


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_ratio_above_one_always_means_better_than_the_peer(value: float, peer: float) -> None:
    assert (DECODE.ratio(value, peer) > 1) == (value > peer)
    assert (FIRST.ratio(value, peer) > 1) == (value < peer)


@pytest.mark.parametrize(
    ("ours", "theirs", "share"),
    [
        pytest.param([[1, 2, 3, 4]], [[1, 2, 3, 4]], 1.0, id="all-equal"),
        pytest.param([[1, 2, 3, 4]], [[1, 9, 3, 4]], 0.25, id="nothing-counts-after-a-difference"),
        pytest.param([[1, 2], [3, 4]], [[1, 2], [9, 4]], 0.5, id="over-all-answers"),
    ],
)
def test_agreement_is_the_share_before_the_first_difference(
    ours: list[list[int]], theirs: list[list[int]], share: float
) -> None:
    assert agreement(ours, theirs) == share


@pytest.mark.parametrize(
    ("operation", "group"),
    [
        ("aten::mm", "matrix products"),
        ("aten::index_select", "gather, scatter"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::transpose", "views and allocation"),
        ("aten::copy_", "copies"),
        ("aten::sort", "sort"),
        ("aten::mul", "elementwise and sums"),
        ("nemotron::ssm_step", "own kernels"),
    ],
)
def test_operations_have_their_groups(operation: str, group: str) -> None:
    assert group_of(operation) == group


@given(
    st.lists(st.builds(Operation, st.sampled_from(["aten::mm", "aten::add", "own::x"]), st.floats(0, 1)), max_size=9)
)
def test_shares_of_a_step_come_to_one_whole_step(profiled: list[Operation]) -> None:
    parts = shares(profiled, seconds=10.0)
    assert sum(parts.values()) == pytest.approx(1)
    assert parts[OUTSIDE] == pytest.approx(1 - sum(operation.seconds for operation in profiled) / 10)
