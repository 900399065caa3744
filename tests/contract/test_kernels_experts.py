"""Norms, router and experts equal their formulas; the grouped experts equal the plain ones."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nemotron_kernels.gated_rms_norm import gated_rms_norm
from nemotron_kernels.moe import moe, moe_grouped
from nemotron_kernels.rms_norm import rms_norm
from nemotron_kernels.router import router
from tests.builders.numbers import FP32_ROUNDING, SEEDS, chance, error, random

pytestmark = pytest.mark.contract


def test_the_gated_norm_gates_first_and_scales_each_group_alone() -> None:
    y, z, weight = random(3, 12, seed=1), random(3, 12, seed=2), random(12, seed=3)

    out = gated_rms_norm(y, z, weight, groups=4, eps=1e-5)

    gated = (y.double() * z.double() * torch.sigmoid(z.double())).reshape(3, 4, 3)
    expected = gated / (gated.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    assert error(out, expected.reshape(3, 12) * weight.double()) < FP32_ROUNDING


def test_the_gated_norm_rounds_before_its_weight_and_the_block_norm_after() -> None:
    # given a weight that is no power of two, so that the order of rounding shows
    x, z, weight = random(64, 8, seed=1), random(64, 8, seed=2, dtype=torch.bfloat16), torch.full((8,), 1.01)

    gated, block = gated_rms_norm(x, z, weight, groups=1, eps=1e-5), rms_norm(x.bfloat16(), weight, 1e-5)

    ones = torch.ones(8)
    rounded_first = gated_rms_norm(x, z, ones, groups=1, eps=1e-5) * weight.bfloat16()
    assert torch.equal(gated, rounded_first)
    rounded_last = (rms_norm(x.bfloat16().float(), ones, 1e-5) * weight).bfloat16()
    assert torch.equal(block, rounded_last)
    assert not torch.equal(block, rms_norm(x.bfloat16(), ones, 1e-5) * weight.bfloat16())


@given(
    seed=SEEDS,
    groups=st.sampled_from([(1, 1), (2, 1), (4, 2), (8, 3)]),
    normalize=st.booleans(),
    levels=st.sampled_from([3, 10_000]),
)
def test_the_router_is_the_definition_ties_included(
    seed: int, groups: tuple[int, int], normalize: bool, levels: int
) -> None:
    # given logits on few levels, so that scores tie, and ten experts' worth of choice
    experts, k = 24, 3
    logits = (random(9, experts, seed=seed) * levels).round() / levels
    bias = (random(experts, seed=seed + 1) * levels).round() / levels
    count, top = groups

    ids, weights = router(
        logits, torch.eye(experts), bias, k=k, groups=count, top_groups=top, scale=2.5, normalize=normalize
    )

    for row in range(9):
        scores = logits[row].sigmoid()
        choice = (scores + bias).tolist()
        size = experts // count
        best_two = [sum(sorted(choice[g * size : (g + 1) * size])[-2:]) for g in range(count)]
        open_groups = sorted(range(count), key=lambda g: (-best_two[g], g))[:top]
        allowed = [e for e in range(experts) if e // size in open_groups]
        expected = sorted(sorted(allowed, key=lambda e: (-choice[e], e))[:k])
        share = scores[expected].sum() + 1e-20 if normalize else torch.tensor(1.0)
        assert ids[row].tolist() == expected
        assert error(weights[row], 2.5 * scores[expected] / share) < FP32_ROUNDING


def expert_inputs(tokens: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """x, ids, weights, up, down for 3 of 10 experts, of which the last is never chosen."""
    ids = torch.stack([torch.randperm(9, generator=chance(seed + t))[:3] for t in range(tokens)])
    up, down = random(10, 11, 6, seed=seed + 1, dtype=dtype), random(10, 6, 11, seed=seed + 2, dtype=dtype)
    return random(tokens, 6, seed=seed, dtype=dtype), ids.sort(-1).values, random(tokens, 3, seed=seed).abs(), up, down


@given(tokens=st.integers(1, 40), seed=SEEDS)
def test_grouped_experts_are_the_reference(tokens: int, seed: int) -> None:
    inputs = expert_inputs(tokens, seed, torch.float32)

    assert error(moe_grouped(*inputs), moe(*inputs)) < FP32_ROUNDING


def test_the_experts_reference_is_the_formula() -> None:
    x, ids, weights, up, down = expert_inputs(5, 0, torch.float64)

    inner = torch.einsum("eid,td->tei", up, x).relu().pow(2)
    each = torch.einsum("edi,tei->ted", down, inner)
    expected = torch.einsum("tk,tkd->td", weights.double(), each.gather(1, ids[..., None].expand(-1, -1, 6)))

    assert error(moe(x, ids, weights, up, down), expected) < FP32_ROUNDING


def test_an_expert_nobody_chose_is_not_read() -> None:
    x, ids, weights, up, down = expert_inputs(30, 0, torch.float32)
    up[9], down[9] = torch.nan, torch.nan

    assert moe_grouped(x, ids, weights, up, down).isfinite().all()
