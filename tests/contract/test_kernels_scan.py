"""The recurrence and the convolution equal their formulas, in chunks, in steps, and across any cut."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nemotron_kernels.causal_conv1d import causal_conv1d, causal_conv1d_step
from nemotron_kernels.selective_state_update import selective_state_update
from nemotron_kernels.ssd import ssd_chunk, ssd_sequential
from tests.builders.numbers import FP32_ROUNDING, FP64_ROUNDING, SEEDS, error, random

pytestmark = pytest.mark.contract

LENGTHS = st.integers(1, 70)


def scan_inputs(length: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """state, x, dt, A, B, C, D, dt_bias for 6 heads of 5 in 3 groups, with a state of 4."""
    h, p, g, n = 6, 5, 3, 4
    shapes = ((h, p, n), (length, h, p), (length, h), (h,), (length, g, n), (length, g, n), (h,), (h,))
    inputs = [random(*shape, seed=seed + i, dtype=dtype) for i, shape in enumerate(shapes)]
    inputs[3] = -inputs[3].exp()
    return tuple(inputs)


def test_one_step_of_the_recurrence_is_its_formula() -> None:
    state, x, dt, A, B, C, D, dt_bias = scan_inputs(3, seed=1, dtype=torch.float64)
    # given three sequences that begin with the same state
    y, after = selective_state_update(state.expand(3, -1, -1, -1), x, dt, A, B, C, D, dt_bias)

    for b in range(3):
        for head in range(6):
            group = head // 2
            step = math.log1p(math.exp(dt[b, head] + dt_bias[head]))
            for p in range(5):
                h = [
                    math.exp(step * A[head]) * state[head, p, n] + step * x[b, head, p] * B[b, group, n]
                    for n in range(4)
                ]
                expected = sum(h[n] * C[b, group, n] for n in range(4)) + D[head] * x[b, head, p]
                assert after[b, head, p].tolist() == pytest.approx([float(value) for value in h])
                assert float(y[b, head, p]) == pytest.approx(float(expected))


@given(length=LENGTHS, chunk=st.integers(1, 80), seed=SEEDS)
def test_the_chunked_scan_is_the_sequential_one(length: int, chunk: int, seed: int) -> None:
    exact = ssd_sequential(*scan_inputs(length, seed, torch.float64))

    wide = ssd_chunk(*scan_inputs(length, seed, torch.float64), chunk=chunk)
    single = ssd_chunk(*scan_inputs(length, seed, torch.float32), chunk=chunk)

    assert max(error(a, b) for a, b in zip(wide, exact, strict=True)) < FP64_ROUNDING
    assert max(error(a, b) for a, b in zip(single, exact, strict=True)) < FP32_ROUNDING


@given(cuts=st.sets(st.integers(1, 59), max_size=6), seed=SEEDS)
def test_a_scan_may_be_cut_anywhere_if_its_state_is_carried(cuts: set[int], seed: int) -> None:
    state, x, dt, A, B, C, D, dt_bias = scan_inputs(60, seed, torch.float64)
    whole, last = ssd_chunk(state, x, dt, A, B, C, D, dt_bias, chunk=16)

    parts = []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 60], strict=True):
        part = slice(start, stop)
        y, state = ssd_chunk(state, x[part], dt[part], A, B[part], C[part], D, dt_bias, chunk=16)
        parts.append(y)

    assert error(torch.cat(parts), whole) < FP64_ROUNDING
    assert error(state, last) < FP64_ROUNDING


@pytest.mark.parametrize("dt_shift", [-30.0, 30.0, 300.0])
def test_steps_that_forget_everything_or_nothing_stay_finite(dt_shift: float) -> None:
    inputs = list(scan_inputs(40, seed=3, dtype=torch.float32))
    inputs[-1] = inputs[-1] + dt_shift
    exact = ssd_sequential(*(tensor.double() for tensor in inputs))

    y, state = ssd_chunk(*inputs, chunk=16)

    assert y.isfinite().all()
    assert error(y, exact[0]) < FP32_ROUNDING
    assert error(state, exact[1]) < FP32_ROUNDING


def test_an_empty_sequence_is_a_zeroed_state() -> None:
    _, x, dt, A, B, C, D, dt_bias = scan_inputs(1, seed=5, dtype=torch.float64)

    y, _ = ssd_chunk(torch.zeros(6, 5, 4, dtype=torch.float64), x, dt, A, B, C, D, dt_bias, chunk=4)

    step = F.softplus(dt + dt_bias)[..., None]
    dot = (B * C).sum(-1).repeat_interleave(2, dim=1)[..., None]
    assert error(y, dot * step * x + D[:, None] * x) < FP64_ROUNDING


@given(length=LENGTHS, kernel=st.integers(2, 5), with_bias=st.booleans(), seed=SEEDS)
def test_the_convolution_is_torchs_depthwise_one(length: int, kernel: int, with_bias: bool, seed: int) -> None:
    x, weight = random(length, 7, seed=seed), random(7, kernel, seed=seed + 1)
    bias = random(7, seed=seed + 2) if with_bias else None
    taps = random(kernel - 1, 7, seed=seed + 3)

    y, after = causal_conv1d(x, weight, bias, taps)

    window = torch.cat([taps, x])
    expected = F.conv1d(window.T[None], weight[:, None], bias, groups=7)[0].T
    assert error(y, F.silu(expected)) < FP32_ROUNDING
    assert torch.equal(after, window[length:])


@given(length=LENGTHS, seed=SEEDS)
def test_the_convolution_step_by_step_is_the_whole_one(length: int, seed: int) -> None:
    x, weight, bias = random(length, 7, seed=seed), random(7, 4, seed=seed + 1), random(7, seed=seed + 2)
    whole, last = causal_conv1d(x, weight, bias, torch.zeros(3, 7))

    steps, taps = [], torch.zeros(1, 3, 7)
    for row in x:
        y, taps = causal_conv1d_step(row[None], weight, bias, taps)
        steps.append(y)

    assert error(torch.cat(steps), whole) < FP32_ROUNDING
    assert torch.equal(taps[0], last)
