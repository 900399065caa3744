"""Noise is a function of seed, position and token: the right distribution, the same bits everywhere."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nemotron_runtime.noise import _log, gumbel, key

pytestmark = pytest.mark.unit

SEEDS = st.integers(0, 2**64 - 1)


@given(SEEDS, st.integers(0, 2**20), st.permutations(range(23)))
def test_a_tokens_noise_is_the_same_bits_in_any_company(seed: int, position: int, order: list[int]) -> None:
    keys = torch.tensor([[key(seed, position)], [key(seed + 1, position)]])
    ids = torch.tensor(order)

    together = gumbel(keys, ids)

    for row in range(2):
        for column, token in enumerate(order):
            alone = gumbel(keys[row, None], torch.tensor([token]))
            assert torch.equal(alone, together[row : row + 1, column : column + 1])


@given(SEEDS, st.integers(0, 2**20))
def test_noise_is_always_a_number(seed: int, position: int) -> None:
    noise = gumbel(torch.tensor([[key(seed, position)]]), torch.arange(1000))

    # of the least and the largest number that 52 bits leave between 0 and 1
    assert noise.min() >= -math.log(53 * math.log(2)) - 1e-9
    assert noise.max() <= 53 * math.log(2) + 1e-9


def test_noise_follows_the_gumbel_distribution() -> None:
    count = 200_000
    noise = gumbel(torch.tensor([[key(5, 3)]]), torch.arange(count))[0]

    # Kolmogorov and Smirnov's distance; above 2.2 / √n in one of ten thousand
    expected = (-(-noise.sort().values).exp()).exp()
    distance = (expected - (torch.arange(count) + 0.5) / count).abs().max()
    assert distance < 2.2 / math.sqrt(count)


@pytest.mark.parametrize("value", [0.25, 0.5, 0.7071067811865476, 1.0, 1.4142135623730951, 3.0])
def test_its_logarithm_is_a_logarithm(value: float) -> None:
    x = torch.tensor([value, math.nextafter(value, 0), math.nextafter(value, 9)], dtype=torch.float64)

    assert torch.allclose(_log(x.clone()), x.log(), rtol=1e-10, atol=0)
