"""Attention over pages equals plain causal attention, wherever the pages lie."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nemotron_kernels.paged_attention import attend_one_each, attend_span, paged_attention
from tests.builders.numbers import FP64_ROUNDING, SEEDS, error, random

pytestmark = pytest.mark.contract

PAGES, PAGE_TOKENS = 30, 4


def cache(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Keys and values of 2 heads of 8."""
    shape = (PAGES, PAGE_TOKENS, 2, 8)
    return random(*shape, seed=seed, dtype=dtype), random(*shape, seed=seed + 1, dtype=dtype)


def tables(sequences: int, seed: int) -> Tensor:
    """Five pages of its own for each sequence."""
    return torch.randperm(PAGES, generator=torch.Generator().manual_seed(seed))[: 5 * sequences].view(sequences, 5)


@given(ends=st.lists(st.integers(1, 20), min_size=1, max_size=6), seed=SEEDS)
def test_one_query_each_is_the_reference(ends: list[int], seed: int) -> None:
    keys, values = cache(seed)
    queries, pages, lengths = (
        random(len(ends), 6, 8, seed=seed, dtype=torch.float64),
        tables(len(ends), seed),
        torch.tensor(ends),
    )
    longest = -(-max(ends) // PAGE_TOKENS)

    out = attend_one_each(queries, keys, values, pages[:, :longest], lengths)

    expected = paged_attention(queries, keys, values, pages, torch.arange(len(ends)), lengths - 1)
    assert error(out, expected) < FP64_ROUNDING


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
    queries, pages, lengths = random(2, 6, 8, seed=1, dtype=torch.float64), tables(2, 0), torch.tensor([17, 9])
    moved = torch.randperm(PAGES, generator=torch.Generator().manual_seed(5))
    back = torch.empty_like(moved).scatter_(0, moved, torch.arange(PAGES))

    there = attend_one_each(queries, keys[moved], values[moved], back[pages], lengths)

    assert torch.equal(there, attend_one_each(queries, keys, values, pages, lengths))
