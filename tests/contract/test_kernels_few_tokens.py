"""The kernels of a decode step's attention, router and experts equal their references, and rows are their own."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import tests.builders.interpreter  # noqa: F401
from nemotron_kernels.moe import moe
from nemotron_kernels.moe.op import Shared, moe_few_tokens
from nemotron_kernels.paged_attention import attend_window
from nemotron_kernels.paged_attention.op import attend_window_in_parts
from nemotron_kernels.rms_norm import add_rms_norm_fused, rms_norm
from nemotron_kernels.router import router
from nemotron_kernels.router.op import router_fused
from tests.builders.numbers import FP32_ROUNDING, chance, error, random

pytestmark = pytest.mark.contract

PAGES, PAGE_TOKENS, KEY_HEADS = 40, 16, 2
BF16_ROUNDING = 2.0**-8
few = settings(max_examples=4)


def pages(dtype: torch.dtype, d: int) -> tuple[Tensor, Tensor]:
    """Keys and values; the last page holds NaN."""
    keys, values = (random(PAGES + 1, PAGE_TOKENS, KEY_HEADS, d, seed=seed) for seed in (1, 2))
    keys[-1], values[-1] = torch.nan, torch.nan
    return keys.to(dtype), values.to(dtype)


def tables(sequences: int) -> Tensor:
    """A sequence's pages; what it has no page for is the one with NaN."""
    return torch.stack([torch.randperm(PAGES, generator=chance(b))[:30] for b in range(sequences)])


@pytest.mark.parametrize(
    ("dtype", "kept", "bound"),
    [
        pytest.param(torch.float32, torch.float32, FP32_ROUNDING, id="FP32"),
        pytest.param(torch.bfloat16, torch.bfloat16, BF16_ROUNDING, id="BF16"),
        pytest.param(torch.bfloat16, torch.float8_e4m3fn, BF16_ROUNDING, id="FP8-keys"),
    ],
)
@pytest.mark.parametrize(("heads", "d"), [(32, 16), (6, 12)], ids=["sixteen-to-a-key-head", "odd"])
def test_attention_in_parts_is_the_reference(
    dtype: torch.dtype, kept: torch.dtype, bound: float, heads: int, d: int
) -> None:
    # given a first token, ends of a page and of a part, several parts, and pages behind them that are someone else's
    keys, values = pages(kept, d)
    queries, positions = random(2, 2, heads, d, seed=3, dtype=dtype), torch.tensor([[0, 127], [128, 400]])
    mine = tables(2)
    mine[:, 26:] = PAGES

    given = attend_window_in_parts(queries, keys, values, mine, positions)

    wide = keys.float().nan_to_num(), values.float().nan_to_num()
    assert error(given, attend_window(queries.float(), *wide, mine, positions)) < bound


def test_every_byte_of_fp8_is_read_as_its_number() -> None:
    codes = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).view(16, 16, 1, 1)
    keys, values = torch.zeros_like(codes), codes
    for place, number in enumerate(codes.flatten().tolist()):
        # One token alone: what it holds is what is given.
        table, at = torch.tensor([[place // 16]]), torch.tensor([[0]])
        moved = values.view(torch.uint8).roll(-(place % 16), 1).view(torch.float8_e4m3fn)
        if place % 37 == 0 or place in (1, 127, 128, 255):
            given = attend_window_in_parts(torch.zeros(1, 1, 1, 1), keys, moved, table, at)
            torch.testing.assert_close(given.flatten(), torch.tensor([number]), equal_nan=True, rtol=0, atol=0)


def test_company_and_longer_tables_change_no_bit_of_attention() -> None:
    keys, values = pages(torch.bfloat16, 16)
    queries, positions = random(3, 1, 6, 16, seed=3, dtype=torch.bfloat16), torch.tensor([[5], [-1], [200]])

    together = attend_window_in_parts(queries, keys, values, tables(3), positions)

    alone = attend_window_in_parts(queries[2:], keys, values, tables(3)[2:, :13], positions[2:])
    assert torch.equal(together[2:], alone)
    assert not together[1].any()


@few
@given(levels=st.sampled_from([3, 10_000]), normalize=st.booleans(), experts=st.sampled_from([5, 30]))
def test_the_fused_router_is_the_reference_ties_included(levels: int, normalize: bool, experts: int) -> None:
    logits = (random(3, experts, seed=experts) * levels).round() / levels
    bias = (random(experts, seed=1) * levels).round() / levels
    asked = {"k": 3, "scale": 2.5, "normalize": normalize}

    ids, weights = router_fused(logits, torch.eye(experts), bias, **asked)  # type: ignore[arg-type]

    expected, shares = router(logits, torch.eye(experts), bias, groups=1, top_groups=1, **asked)  # type: ignore[arg-type]
    assert torch.equal(ids, expected)
    assert error(weights, shares) < FP32_ROUNDING


def test_scores_that_are_no_numbers_still_name_experts_that_exist() -> None:
    x = torch.tensor([[torch.nan, 1.0], [0.5, 1.0]])
    route = partial(router_fused, weight=random(9, 2, seed=1), bias=torch.zeros(9), k=4, scale=1.0, normalize=True)

    ids, weights = route(x)

    assert 0 <= int(ids.min()) <= int(ids.max()) < 9
    assert weights[0].isnan().all()
    assert torch.equal(weights[1:], route(x[1:])[1])


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, FP32_ROUNDING), (torch.bfloat16, BF16_ROUNDING)])
@pytest.mark.parametrize("d", [1, 37, 128])
def test_the_fused_norm_adds_and_is_the_reference(dtype: torch.dtype, bound: float, d: int) -> None:
    # given rows that lie apart
    h, delta = (random(3, 2 * d, seed=seed, dtype=dtype)[:, :d] for seed in (1, 2))
    weight = random(d, seed=3, dtype=dtype)

    total, normed = add_rms_norm_fused(h, delta, weight, 1e-5)

    assert torch.equal(total, h + delta)
    assert error(normed, rms_norm(h + delta, weight, 1e-5)) < bound
    same, alone = add_rms_norm_fused(total[2:], None, weight, 1e-5)
    assert torch.equal(alone, normed[2:])
    assert same.data_ptr() == total[2:].data_ptr()
    assert add_rms_norm_fused(h[:0], delta[:0], weight, 1e-5)[1].shape == (0, d)


def expert_inputs(tokens: int, dtype: torch.dtype, d: int = 20) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, ids, weights, up, down of 5 of 9 experts; the last one, which nobody chose, holds NaN."""
    ids = torch.stack([torch.randperm(8, generator=chance(t))[:5] for t in range(tokens)]).sort(-1).values
    up, down = random(9, 11, d, seed=1, dtype=dtype) / 4, random(9, d, 11, seed=2, dtype=dtype)
    up[8], down[8] = torch.nan, torch.nan
    rows = random(tokens, 2 * d, seed=3, dtype=dtype)[:, :d]
    return rows, ids, random(tokens, 5, seed=4).abs(), up, down


def wide(*parts: Tensor) -> list[Tensor]:
    return [part.float() if part.is_floating_point() else part for part in parts]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, FP32_ROUNDING), (torch.bfloat16, BF16_ROUNDING)])
@pytest.mark.parametrize("latent", [False, True])
def test_the_experts_of_a_few_tokens_are_the_reference(dtype: torch.dtype, bound: float, latent: bool) -> None:
    x, ids, weights, up, down = expert_inputs(3, dtype)
    width = 30 if latent else 20
    shared = Shared(
        random(3, width, seed=5, dtype=dtype),
        random(13, width, seed=6, dtype=dtype) / 4,
        random(width, 13, seed=7, dtype=dtype),
    )

    routed, beside = moe_few_tokens(x, ids, weights, up, down, shared, together=not latent)

    given = torch.cat([routed, beside], 1) if beside is not None else routed
    of_all, (sx, su, sd) = moe(*wide(x, ids, weights, up, down)), wide(shared.x, shared.up, shared.down)
    of_shared = (sx @ su.T).relu().square() @ sd.T
    assert error(given, torch.cat([of_all, of_shared], 1) if latent else of_all + of_shared) < bound


def test_experts_without_a_shared_one_are_the_reference() -> None:
    inputs = expert_inputs(1, torch.float32)

    given, beside = moe_few_tokens(*inputs)

    assert error(given, moe(*inputs)) < FP32_ROUNDING
    assert beside is None


def test_a_tokens_experts_are_the_same_bits_in_any_company() -> None:
    x, ids, weights, up, down = expert_inputs(3, torch.bfloat16)

    together, _ = moe_few_tokens(x, ids, weights, up, down)

    for t in range(3):
        alone, _ = moe_few_tokens(x[t, None], ids[t, None], weights[t, None], up, down)
        assert torch.equal(together[t], alone[0])


def test_the_operations_can_be_traced() -> None:
    with torch.device("meta"):
        x, ids, weights = torch.empty(2, 20), torch.empty(2, 5, dtype=torch.int64), torch.empty(2, 5)
        routed, _ = moe_few_tokens(x, ids, weights, torch.empty(9, 11, 20), torch.empty(9, 20, 11))
        named, shares = router_fused(x, torch.empty(9, 20), torch.empty(9), k=5, scale=1.0, normalize=True)
        keys, at = torch.empty(4, 16, 2, 16), torch.zeros(2, 1, dtype=torch.int64)
        attended = attend_window_in_parts(torch.empty(2, 1, 6, 16), keys, keys, at, at)

    assert (routed.shape, named.shape, shares.shape, attended.shape) == ((2, 20), (2, 5), (2, 5), (2, 1, 6, 16))
