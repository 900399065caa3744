"""The fused step of a Mamba-2 block equals its reference, in what it gives and in what it leaves in memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import tests.builders.interpreter  # noqa: F401
from nemotron_kernels.mamba_step import RingParts, Rows, mamba_step
from nemotron_kernels.mamba_step.op import mamba_step_fused
from tests.builders.numbers import FP32_ROUNDING, SEEDS, error
from tests.builders.steps import a_block, a_ring, copied, remember, some_rows, tensors

pytestmark = pytest.mark.contract

MOST_OLD = 31
SIZES = [
    pytest.param((4, 16, 2, 16), id="two-heads-to-a-group"),
    pytest.param((3, 20, 3, 12), id="odd-sizes"),
    pytest.param((2, 80, 1, 128), id="head-dim-80"),
]
BF16_ULPS = 2 * 2.0**-8


def both(
    rows: Rows, ring: RingParts, sizes: tuple[int, int, int, int], **block: bool
) -> tuple[Tensor, Tensor, RingParts]:
    """What the reference and the fused step give, and the ring that the fused one leaves; the reference's is `ring`."""
    remember(ring, rows)
    other, weights = copied(ring), a_block(*sizes, ring.xs.dtype, **block)
    return mamba_step(rows, ring, weights), mamba_step_fused(rows, other, weights, most_old=MOST_OLD), other


@pytest.mark.parametrize("state", ["FP32", "FP16", "INT8"])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_step_is_the_reference(sizes: tuple[int, int, int, int], state: str) -> None:
    # given a ring that begins anew amid the tail, a sequence at its anchor, and one that begins; others' NaN around
    ring = a_ring(5, *sizes, state=state)
    rows = some_rows(ring, [3, 0, 4], [63, 16, 0], [32, 16, 0], 1)
    ring.taps[4], ring.sums[4] = 0, 0

    expected, given, left = both(rows, ring, sizes)

    assert error(given, expected) < FP32_ROUNDING
    for name, part in tensors(ring).items():
        torch.testing.assert_close(tensors(left)[name], part, rtol=1e-5, atol=1e-5, equal_nan=True)


@settings(max_examples=6)
@given(q=st.integers(2, 13), start=st.integers(0, 31), anchor=st.sampled_from([0, 16, 48]), bias=st.booleans())
def test_several_tokens_are_computed_as_one_after_the_other(q: int, start: int, anchor: int, bias: bool) -> None:
    sizes = (2, 8, 1, 8)
    ring = a_ring(2, *sizes)
    rows = some_rows(ring, [1], [anchor + start], [anchor], q)
    if anchor + start < 3:
        ring.taps[1], ring.sums[1] = 0, 0

    expected, given, left = both(rows, ring, sizes, bias=bias)

    assert error(given, expected) < FP32_ROUNDING
    for name, part in tensors(ring).items():
        torch.testing.assert_close(tensors(left)[name], part, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_bf16_is_kept_and_given_within_two_units_of_its_last_place() -> None:
    sizes = (4, 16, 2, 16)
    ring = a_ring(3, *sizes, torch.bfloat16)
    rows = some_rows(ring, [2, 0], [29, 18], [16, 0], 1)

    expected, given, left = both(rows, ring, sizes)

    assert (given.float() - expected.float()).abs().le(BF16_ULPS * expected.float().abs() + 1e-2).all()
    assert torch.equal(left.taps.isnan(), ring.taps.isnan())
    torch.testing.assert_close(left.xs, ring.xs, rtol=BF16_ULPS, atol=1e-6, equal_nan=True)


def test_a_row_of_nobody_gives_zeros_and_changes_nothing() -> None:
    sizes = (4, 16, 2, 16)
    ring = a_ring(2, *sizes)
    rows = some_rows(ring, [-1, -1], [5, 9], [0, 0], 2)
    before = copied(ring)

    given = mamba_step_fused(rows, ring, a_block(*sizes), most_old=MOST_OLD)

    assert not given.any()
    for name, part in tensors(before).items():
        assert torch.equal(tensors(ring)[name].nan_to_num(7), part.nan_to_num(7))


@settings(max_examples=4)
@given(order=st.permutations([0, 1, 2]), seed=SEEDS)
def test_neighbours_change_no_bit(order: list[int], seed: int) -> None:
    sizes = (2, 16, 1, 16)
    ring, block = a_ring(3, *sizes, torch.bfloat16), a_block(*sizes, torch.bfloat16)
    rows = some_rows(ring, [2, 0, 1], [20, 33, 31], [0, 16, 16], 1)
    remember(ring, rows)
    alone = mamba_step_fused(rows, copied(ring), block, most_old=MOST_OLD)

    there = torch.tensor(order)
    moved = Rows(*(getattr(rows, name)[there] for name in ("z", "xbc", "dt", "slots", "positions", "anchors")))
    together = mamba_step_fused(moved, ring, block, most_old=MOST_OLD)

    assert torch.equal(together, alone[there])


def test_a_ring_that_is_no_whole_tensor_is_refused() -> None:
    sizes = (2, 16, 1, 16)
    ring = a_ring(4, *sizes)
    strided = RingParts(
        ring.states, *(part[::2] for part in (ring.before, ring.taps, ring.xs, ring.Bs, ring.sums, ring.keys))
    )

    with pytest.raises(ValueError, match="contiguous: pass whole tensors"):
        mamba_step_fused(some_rows(ring, [0], [1], [0], 1), strided, a_block(*sizes), most_old=MOST_OLD)


def test_the_operation_can_be_traced() -> None:
    sizes = (2, 16, 1, 16)
    with torch.device("meta"):
        ring = a_ring(4, *sizes)
        rows = some_rows(ring, [0, 1], [1, 1], [0, 0], 1)
        block = a_block(*sizes)

    assert mamba_step_fused(rows, ring, block, most_old=MOST_OLD).shape == (2, 32)
