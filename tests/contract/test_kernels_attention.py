"""Attention over pages equals plain causal attention, wherever the pages lie."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from nemotron_kernels.paged_attention import (
    attend_in_blocks,
    attend_in_splits,
    attend_span,
    attend_window,
    paged_attention,
    store,
)
from nemotron_kernels.paged_attention.blocks import BLOCK_TOKENS
from tests.builders.numbers import FP32_ROUNDING, FP64_ROUNDING, SEEDS, chance, error, random

pytestmark = pytest.mark.contract

PAGES, PAGE_TOKENS = 30, 4
LONG_PAGES = 29


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


SCATTER = st.sampled_from([0, 2, 9])
"""How many of a table's pages are swapped for others."""


def long_tables(sequences: int, scatter: int, seed: int) -> Tensor:
    """Pages that follow each other, but for some; sequences share pages, which no reader minds."""
    rows = torch.arange(LONG_PAGES).roll(1)[None].repeat(sequences, 1)
    for _ in range(scatter):
        at = torch.randint(LONG_PAGES, (sequences, 2), generator=chance(seed + scatter))
        rows.scatter_(1, at, rows.gather(1, at.flip(1)))
    return rows


@given(
    starts=st.lists(st.integers(0, 110), min_size=1, max_size=3), count=st.integers(1, 4), scatter=SCATTER, seed=SEEDS
)
def test_attention_in_blocks_is_the_reference(starts: list[int], count: int, scatter: int, seed: int) -> None:
    # given texts of up to 10 blocks of 3 pages, some in one piece and some scattered
    keys, values = (random(LONG_PAGES, PAGE_TOKENS, 2, 8, seed=seed + one, dtype=torch.float64) for one in (0, 1))
    queries = random(len(starts), count, 6, 8, seed=seed, dtype=torch.float64)
    pages, positions = long_tables(len(starts), scatter, seed), torch.tensor(starts)[:, None] + torch.arange(count)

    out = attend_in_blocks(queries, keys, values, pages, positions, block_tokens=3 * PAGE_TOKENS)

    owners = torch.arange(len(starts)).repeat_interleave(count)
    expected = paged_attention(queries.flatten(0, 1), keys, values, pages, owners, positions.flatten())
    assert error(out.flatten(0, 1), expected) < FP64_ROUNDING


class Copied(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are made of others' numbers, unchanged or in another type."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("index_select", "index", "clone", "_to_copy", "copy_", "cat", "stack"):
            self.bytes += out.nbytes
        return out


@pytest.mark.parametrize(
    ("scattered_pages", "copied_share"),
    [
        pytest.param(0, 0.0, id="pages-in-one-piece"),
        pytest.param(2, 2 * BLOCK_TOKENS, id="two-pages-elsewhere"),
        pytest.param(None, 1.0, id="pages-anywhere"),
    ],
)
def test_a_long_text_is_copied_only_where_its_pages_are_scattered(
    scattered_pages: int | None, copied_share: float
) -> None:
    # given a text of 17 blocks; its scores, a number per query and token, are put together beside it
    pages = 17 * BLOCK_TOKENS // 16
    keys, values = (random(pages + 1, 16, 1, 64, seed=seed) for seed in (0, 1))
    table = torch.arange(1, pages + 1)
    if scattered_pages is None:
        table = 1 + torch.randperm(pages, generator=chance(0))
    elif scattered_pages:
        table[[5, -5]] = table[[-5, 5]]
    queries, last = random(1, 1, 2, 64, seed=3), torch.tensor([[pages * 16 - 1]])

    with Copied() as copied:
        attend_window(queries, keys, values, table[None], last)

    tokens = copied_share if copied_share > 1 else copied_share * pages * 16
    scores = 2 * pages * 16 * 4
    assert tokens * 2 * 64 * 4 <= copied.bytes <= tokens * 2 * 64 * 4 + scores + 4096


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
