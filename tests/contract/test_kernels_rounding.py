"""Rounding by chance gives a neighbour, the nearer the likelier, and the same one whenever the same chance decides."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nemotron_kernels.stochastic_rounding import SCALED_TOGETHER, from_bytes, philox, to_bytes, to_half, uniform
from tests.builders.numbers import SEEDS, random

pytestmark = pytest.mark.contract

DRAWS = 10_000
ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0)
"""Random123's "random" inputs: the first bits of π's fraction."""

FITTING = st.floats(-65000, 65000, width=32)


@pytest.mark.parametrize(
    ("rounds", "inputs", "expected"),
    [
        (7, (0,) * 6, (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)),
        (7, (ONES,) * 6, (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)),
        (7, PI, (0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A)),
        (10, (0,) * 6, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (10, (ONES,) * 6, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (10, PI, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_philox_gives_the_published_answers(rounds: int, inputs: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Random123's file of known answers, `tests/kat_vectors`."""
    a, b, c, d, *key = (torch.tensor(word) for word in inputs)

    words = philox((a, b, c, d), (key[0], key[1]), rounds)

    assert tuple(int(word) for word in words) == expected


@given(
    seeds=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=5),
    position=st.integers(0, 2**20),
    layer=st.integers(0, 100),
    count=st.integers(0, 70),
)
def test_a_draw_is_the_same_in_any_company(seeds: list[int], position: int, layer: int, count: int) -> None:
    positions = torch.arange(position, position + len(seeds))

    together = uniform(torch.tensor(seeds), positions, layer, count)

    assert together.shape == (len(seeds), count)
    for row, seed in enumerate(seeds):
        longer = uniform(torch.tensor([seed]), positions[row, None], layer, count + 9)[0]
        assert torch.equal(together[row], longer[:count])


def test_draws_are_of_their_element_whatever_is_computed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds, positions = torch.tensor([3, 2**40]), torch.tensor([16, 32])
    whole = uniform(seeds, positions, 2, 1001)

    monkeypatch.setattr(sys.modules[uniform.__module__], "AT_ONCE", 14)

    assert torch.equal(uniform(seeds, positions, 2, 1001), whole)


def test_draws_are_even_and_differ_by_all_that_decides_them() -> None:
    seeds, positions = torch.tensor([1, 2, 1 << 32, 1]), torch.tensor([16, 16, 16, 32])
    rows = [*uniform(seeds, positions, 0, DRAWS), uniform(seeds[:1], positions[:1], 1, DRAWS)[0]]

    for row in rows:
        assert 0 <= row.min() < row.max() < 1
        # a tenth of the draws in each tenth; five standard deviations of a count are 150
        assert (torch.histc(row, 10, 0, 1) - DRAWS / 10).abs().max() < 150
    # independent, each pair: five standard deviations of a correlation
    assert (torch.corrcoef(torch.stack(rows)) - torch.eye(5)).abs().max() < 5 / DRAWS**0.5


@given(FITTING, st.floats(0, 1, exclude_max=True, width=32))
def test_a_half_is_one_of_the_two_neighbours(value: float, u: float) -> None:
    half = to_half(torch.tensor([value]), torch.tensor([u])).double()

    below, above = neighbours(value)
    assert half.item() in (below, above)


@given(SEEDS)
def test_what_fp16_has_stays_itself(seed: int) -> None:
    bits = torch.randint(-(2**15), 2**15, (500,), generator=torch.Generator().manual_seed(seed)).to(torch.int16)
    halves = bits.view(torch.float16)
    halves = halves[halves.isfinite()]

    assert torch.equal(to_half(halves.float(), random(len(halves), seed=seed).sigmoid()), halves)


@pytest.mark.parametrize("value", [1.0003, -3.14159, 1e-6, 3e-8, -6.1e-5, 1234.567, 65000.4])
def test_halves_are_right_on_average(value: float) -> None:
    """The mean over the draws lies within five of its standard deviations of the number, as FP32 has it."""
    same = torch.full((DRAWS,), value)

    halves = to_half(same, uniform(torch.tensor([5]), torch.tensor([16]), 0, DRAWS)[0]).double()

    below, above = neighbours(float(same[0]))
    assert abs(float(halves.mean() - same[0].double())) < 5 * (above - below) / 2 / DRAWS**0.5
    assert set(halves.tolist()) == {below, above}


def test_bytes_are_right_on_average() -> None:
    values = random(3 * SCALED_TOGETHER + 40, seed=1)
    seeds = torch.arange(DRAWS)
    u = uniform(seeds, torch.full((DRAWS,), 16), 0, len(values))

    codes, scales = to_bytes(values.expand(DRAWS, -1), u)

    mean = from_bytes(codes, scales).double().mean(0)
    steps = scales[0].repeat_interleave(SCALED_TOGETHER)[: len(values)]
    # six standard deviations, as there are 424 means
    assert ((mean - values).abs() < 6 * steps / 2 / DRAWS**0.5 + 1e-6).all()


@given(st.integers(1, 300), SEEDS, st.floats(1e-20, 1e20))
def test_bytes_are_less_than_a_step_away(count: int, seed: int, size: float) -> None:
    values = random(2, count, seed=seed) * size

    codes, scales = to_bytes(values, random(2, count, seed=seed + 1).sigmoid())

    steps = scales.repeat_interleave(SCALED_TOGETHER, -1)[:, :count]
    assert codes.dtype == torch.int8
    assert scales.shape == (2, -(-count // SCALED_TOGETHER))
    assert ((from_bytes(codes, scales) - values).abs() <= steps * 1.0001).all()


def test_zeros_stay_zeros() -> None:
    zeros, u = torch.zeros(2, 200), torch.full((2, 200), 0.999)

    assert not to_half(zeros, u).any()
    assert not from_bytes(*to_bytes(zeros, u)).any()


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_not_hidden(wrong: float) -> None:
    values, u = torch.ones(2 * SCALED_TOGETHER), torch.rand(2 * SCALED_TOGETHER)
    values[3] = wrong

    halves, restored = to_half(values, u), from_bytes(*to_bytes(values, u))

    assert halves.isfinite().tolist() == [place != 3 for place in range(2 * SCALED_TOGETHER)]
    assert not restored[:SCALED_TOGETHER].isfinite().any()
    assert torch.equal(restored[SCALED_TOGETHER:], values[SCALED_TOGETHER:])


@given(st.floats(2.0**16, 2.0**127, width=32), st.floats(0, 1, exclude_max=True, width=32))
def test_too_much_for_fp16_is_infinite(value: float, u: float) -> None:
    assert to_half(torch.tensor([value, -value]), torch.tensor([u, u])).tolist() == [torch.inf, -torch.inf]


def neighbours(value: float) -> tuple[float, float]:
    """The nearest FP16 numbers at or below and at or above a number."""
    nearest = torch.tensor(value, dtype=torch.float64).half()
    lowest, highest = (_next(nearest, towards) for towards in (-torch.inf, torch.inf))
    if nearest.double() == value:
        return float(nearest), float(nearest)
    return (float(nearest), highest) if nearest.double() < value else (lowest, float(nearest))


def _next(half: Tensor, towards: float) -> float:
    # torch has no nextafter of FP16.
    return float(np.nextafter(half.numpy(), np.float16(towards)))
