"""Attention over pages equals plain causal attention, wherever the pages lie."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nemotron_kernels.paged_attention import attend_in_splits, attend_span, attend_window, paged_attention, store
from tests.builders.numbers import FP32_ROUNDING, FP64_ROUNDING, SEEDS, chance, error, random

pytestmark = pytest.mark.contract

PAGES, PAGE_TOKENS = 30, 4


def cache(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Keys and values of 2 heads of 8."""
    shape = (PAGES, PAGE_TOKENS, 2, 8)
    return random(*shape, seed=seed, dtype=dtype), random(*shape, seed=seed + 1, dtype=dtype)


def tables(sequences: int, seed: int) -> Tensor:
    """Five pages of its own for each sequence."""
    return torch.randperm(PAGES, generator=chance(seed))[: 5 * sequences].view(sequences, 5)


@given(starts=st.lists(st.integers(0, 16), min_size=1, max_size=6), count=st.integers(1, 4), seed=SEEDS)
def test_a_window_is_the_reference(starts: list[int], count: int, seed: int) -> None:
    keys, values = cache(seed)
    queries = random(len(starts), count, 6, 8, seed=seed, dtype=torch.float64)
    pages, positions = tables(len(starts), seed), torch.tensor(starts)[:, None] + torch.arange(count)
    longest = -(-(max(starts) + count) // PAGE_TOKENS)

    out = attend_window(queries, keys, values, pages[:, :longest], positions)

    owners = torch.arange(len(starts)).repeat_interleave(count)
    expected = paged_attention(queries.flatten(0, 1), keys, values, pages, owners, positions.flatten())
    assert error(out.flatten(0, 1), expected) < FP64_ROUNDING


@given(positions=st.lists(st.integers(0, 119), min_size=1, max_size=6), seed=SEEDS)
def test_attention_in_splits_is_the_reference(positions: list[int], seed: int) -> None:
    # given sequences of up to two splits, whose last pages no table needs to name
    keys, values = cache(seed, torch.float32)
    queries = random(len(positions), 6, 8, seed=seed)
    pages = torch.randint(PAGES, (len(positions), 30), generator=chance(seed))
    needed = max(positions) // PAGE_TOKENS + 1

    out = attend_in_splits(queries, keys, values, pages[:, :needed], torch.tensor(positions))

    owners = torch.arange(len(positions))
    expected = paged_attention(queries.double(), keys.double(), values.double(), pages, owners, torch.tensor(positions))
    assert error(out, expected) < FP32_ROUNDING


@given(positions=st.lists(st.integers(0, 119), min_size=2, max_size=6), seed=SEEDS)
def test_attention_in_splits_gives_each_query_bits_of_its_own(positions: list[int], seed: int) -> None:
    keys, values = cache(seed, torch.bfloat16)
    queries = random(len(positions), 6, 8, seed=seed, dtype=torch.bfloat16)
    pages = torch.randint(PAGES, (len(positions), 30), generator=chance(seed))

    together = attend_in_splits(queries, keys, values, pages, torch.tensor(positions))

    for row, position in enumerate(positions):
        mine = slice(row, row + 1)
        alone = attend_in_splits(
            queries[mine], keys, values, pages[mine, : position // 4 + 1], torch.tensor([position])
        )
        assert torch.equal(together[row], alone[0])


@given(start=st.integers(0, 19), data=st.data(), seed=SEEDS)
def test_a_span_is_the_reference(start: int, data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(1, 20 - start))
    keys, values = cache(seed)
    queries, pages = random(count, 6, 8, seed=seed, dtype=torch.float64), tables(1, seed)

    out = attend_span(queries, keys, values, pages[0], start)

    positions = torch.arange(start, start + count)
    expected = paged_attention(queries, keys, values, pages, torch.zeros_like(positions), positions)
    assert error(out, expected) < FP64_ROUNDING


def test_the_attention_reference_is_torchs_causal_attention() -> None:
    keys, values = cache(0)
    queries, pages = random(20, 6, 8, seed=9, dtype=torch.float64), tables(1, 0)
    positions = torch.arange(20)

    out = paged_attention(queries, keys, values, pages, torch.zeros_like(positions), positions)

    k, v = (part[pages[0]].flatten(0, 1).transpose(0, 1) for part in (keys, values))
    plain = F.scaled_dot_product_attention(queries.transpose(0, 1), k, v, is_causal=True, enable_gqa=True)
    assert error(out, plain.transpose(0, 1)) < FP64_ROUNDING


def test_where_a_sequences_pages_lie_makes_no_difference() -> None:
    keys, values = cache(0)
    queries, pages = random(2, 1, 6, 8, seed=1, dtype=torch.float64), tables(2, 0)
    positions = torch.tensor([[16], [8]])
    moved = torch.randperm(PAGES, generator=chance(5))
    back = torch.empty_like(moved).scatter_(0, moved, torch.arange(PAGES))

    there = attend_window(queries, keys[moved], values[moved], back[pages], positions)

    assert torch.equal(there, attend_window(queries, keys, values, pages, positions))


def test_pages_of_fp8_hold_the_nearest_number_they_can() -> None:
    pages = torch.zeros(2, 4, 1, 1, dtype=torch.float8_e4m3fn)
    rows = torch.tensor([1.06, -0.3, 460.0, -1e30, torch.nan, torch.inf])

    store(pages, torch.tensor([0, 2, 3, 5, 6, 7]), rows.view(6, 1, 1).bfloat16())

    expected = torch.tensor([1.0, 0.0, -0.3125, 448.0, 0.0, -448.0, torch.nan, torch.nan])
    torch.testing.assert_close(pages.float().flatten(), expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@given(position=st.integers(0, 19), seed=SEEDS)
def test_attention_reads_fp8_as_the_numbers_it_stands_for(dtype: torch.dtype, position: int, seed: int) -> None:
    keys, values = (pages.to(torch.float8_e4m3fn) for pages in cache(seed, torch.float32))
    wide = keys.to(dtype), values.to(dtype)
    queries, table = random(position + 1, 6, 8, seed=seed, dtype=dtype), tables(1, seed)
    places = torch.arange(position + 1)

    def attended(k: Tensor, v: Tensor) -> list[Tensor]:
        in_splits = attend_in_splits(queries, k, v, table.expand(position + 1, -1), places)
        return [
            attend_window(queries[None], k, v, table, places[None]),
            attend_span(queries, k, v, table[0], 0),
            in_splits,
        ]

    assert all(torch.equal(given, same) for given, same in zip(attended(keys, values), attended(*wide), strict=True))
