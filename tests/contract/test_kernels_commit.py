"""Moving anchors on with the fused kernel is the recurrence, and rounds to the bits of the reference."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

import tests.builders.interpreter  # noqa: F401
from nemotron_kernels.mamba_step import RingParts, can_commit, commit_fused
from nemotron_kernels.ssd import ssd_advance
from nemotron_kernels.stochastic_rounding import from_bytes, to_bytes, to_half, uniform
from tests.builders.numbers import FP32_ROUNDING, error
from tests.builders.steps import RING, a_ring, copied, remember, some_rows, tensors

pytestmark = pytest.mark.contract

TOKENS, LAYER = 16, 5
SIZES = (2, 40, 1, 16)
SLOTS, SEEDS, ANCHORS = (2, -1, 0), (7, 1, 2**40 + 3), (16, 16, 64)


def moves() -> tuple[Tensor, Tensor, Tensor]:
    """Slots, seeds and anchors; one is nobody's."""
    return torch.tensor(SLOTS), torch.tensor(SEEDS), torch.tensor(ANCHORS)


def a_tail(state: str, sizes: tuple[int, int, int, int] = SIZES) -> RingParts:
    ring = a_ring(3, *sizes, state=state)
    remember(ring, some_rows(ring, list(SLOTS), [20, 20, 70], [0, 0, 48], 1))
    return ring


def values(states: tuple[Tensor, ...]) -> Tensor:
    kept, *scales = states
    return from_bytes(kept.flatten(2), scales[0]).view(kept.shape) if scales else kept.float()


def own(ring: RingParts) -> RingParts:
    """A ring whose states are its own, too."""
    found = copied(ring)
    rest = found.before, found.taps, found.xs, found.Bs, found.sums, found.keys
    return RingParts(tuple(part.clone() for part in ring.states), *rest)


def advanced(ring: RingParts, slot: int, anchor: int) -> Tensor:
    """(1, h, p, n) FP32, before it is rounded."""
    places = [token % RING for token in range(anchor - TOKENS, anchor)]
    tail = ring.xs[slot, None, :, places], ring.Bs[slot, None, :, places]
    logs = ring.sums[slot, None, :, places], ring.keys[slot, None, :, places]
    return ssd_advance(values(ring.states)[slot, None], ring.before[slot, None], *tail, *logs)


@pytest.mark.parametrize(("state", "bound"), [("FP32", FP32_ROUNDING), ("FP16", 2.0**-10), ("INT8", 2 / 127)])
def test_a_commit_is_the_recurrence_and_empties_the_ring(state: str, bound: float) -> None:
    ring = a_tail(state)
    left = own(ring)

    commit_fused(left, *moves(), layer=LAYER, tokens=TOKENS)

    for slot, anchor in ((2, 16), (0, 64)):
        places = [token % RING for token in range(anchor - TOKENS, anchor)]
        assert error(values(left.states)[slot, None], advanced(ring, slot, anchor)) < bound
        assert torch.equal(left.before[slot], ring.sums[slot, :, (anchor - 1) % RING])
        assert left.keys[slot, :, places].isposinf().all()
        ring.keys[slot, :, places] = torch.inf
    # Nobody's row, other slots and the rest of the ring are as they were.
    assert all(torch.equal(mine[1], theirs[1]) for mine, theirs in zip(left.states, ring.states, strict=True))
    assert all(
        torch.equal(tensors(left)[name].nan_to_num(7), tensors(ring)[name].nan_to_num(7)) for name in ("xs", "keys")
    )


@pytest.mark.parametrize("sizes", [SIZES, (2, 8, 1, 128)], ids=["scales-over-rows", "a-scale-for-each-row"])
@pytest.mark.parametrize("state", ["FP16", "INT8"])
def test_rounding_has_the_bits_of_the_reference(state: str, sizes: tuple[int, int, int, int]) -> None:
    kept = a_tail(state, sizes)
    wide = replace(own(kept), states=(values(kept.states),))
    left = own(kept)

    commit_fused(wide, *moves(), layer=LAYER, tokens=TOKENS)
    commit_fused(left, *moves(), layer=LAYER, tokens=TOKENS)

    for row, slot in ((0, 2), (2, 0)):
        exact = wide.states[0][slot, None]
        u = uniform(torch.tensor([SEEDS[row]]), torch.tensor([ANCHORS[row]]), LAYER, exact.numel()).view(exact.shape)
        expected = (to_half(exact, u),) if state == "FP16" else _bytes(exact, u)
        assert all(torch.equal(part[slot, None], same) for part, same in zip(left.states, expected, strict=True))


@pytest.mark.parametrize("state", ["FP16", "INT8"])
def test_a_state_that_broke_stays_broken(state: str) -> None:
    ring = a_tail(state)
    ring.xs[2, 0, 3, 5] = torch.nan

    commit_fused(ring, *moves(), layer=LAYER, tokens=TOKENS)

    broken = values(ring.states)[2].isfinite().logical_not()
    assert broken[0, 5].all()
    assert not broken[1].any()


def test_bytes_of_odd_sizes_are_left_to_torch() -> None:
    sizes = (2, 8, 1, 12)
    ring = a_ring(3, *sizes, state="INT8")

    assert not can_commit(ring)
    assert can_commit(a_ring(3, *sizes, state="FP16"))
    with pytest.raises(ValueError, match="commit them with torch"):
        commit_fused(ring, *moves(), layer=LAYER, tokens=TOKENS)


def _bytes(read: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    codes, scales = to_bytes(read.flatten(2), u.flatten(2))
    return codes.view(read.shape), scales
