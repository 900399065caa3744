"""The recurrence and the convolution equal their formulas, in blocks, in windows, and across any cut."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nemotron_kernels.causal_conv1d import causal_conv1d
from nemotron_kernels.selective_state_update import selective_state_update
from nemotron_kernels.ssd import log_decays, ssd_scan, ssd_sequential, ssd_window
from tests.builders.numbers import FP32_ROUNDING, FP64_ROUNDING, SEEDS, chance, error, random

pytestmark = pytest.mark.contract

LENGTHS = st.integers(1, 70)


def scan_inputs(length: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """state, x, dt, A, B, C, D, dt_bias for 6 heads of 5 in 3 groups, with a state of 4."""
    h, p, g, n = 6, 5, 3, 4
    shapes = ((h, p, n), (length, h, p), (length, h), (h,), (length, g, n), (length, g, n), (h,), (h,))
    inputs = [random(*shape, seed=seed + i, dtype=dtype) for i, shape in enumerate(shapes)]
    inputs[3] = -inputs[3].exp()
    return tuple(inputs)


def heads_first(tensor: Tensor) -> Tensor:
    """(l, h, …) → (1, h, l, …)."""
    return tensor.transpose(0, 1)[None]


def scanned(inputs: tuple[Tensor, ...], *, chunk: int, cuts: list[int] | None = None) -> tuple[Tensor, Tensor]:
    """What `ssd_scan` makes of the inputs of `ssd_sequential`, in pieces that end at `cuts`."""
    state, x, dt, A, B, C, D, dt_bias = inputs
    state, before, outputs = state[None], torch.zeros(1, 6, dtype=torch.float64), []
    for start, stop in zip([0, *(cuts or [])], [*(cuts or []), len(x)], strict=True):
        part = slice(start, stop)
        sums, keys = log_decays(before, dt[None, part], A, dt_bias)
        x_part, B_part, C_part = (heads_first(each[part]) for each in (x, B, C))
        y, state = ssd_scan(state, before, x_part, B_part, C_part, sums, keys, chunk=chunk)
        before = sums[..., -1]
        outputs.append(y[0].transpose(0, 1))
    return torch.cat(outputs) + D[:, None] * x, state[0]


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
def test_the_scan_in_blocks_is_the_sequential_one(length: int, chunk: int, seed: int) -> None:
    exact = ssd_sequential(*scan_inputs(length, seed, torch.float64))

    wide = scanned(scan_inputs(length, seed, torch.float64), chunk=chunk)
    single = scanned(scan_inputs(length, seed, torch.float32), chunk=chunk)

    assert max(error(a, b) for a, b in zip(wide, exact, strict=True)) < FP64_ROUNDING
    assert max(error(a, b) for a, b in zip(single, exact, strict=True)) < FP32_ROUNDING


@given(cuts=st.sets(st.integers(1, 59), max_size=6), seed=SEEDS)
def test_a_scan_may_be_cut_anywhere_if_its_state_is_carried(cuts: set[int], seed: int) -> None:
    inputs = scan_inputs(60, seed, torch.float64)

    whole, cut = scanned(inputs, chunk=16), scanned(inputs, chunk=16, cuts=sorted(cuts))

    assert max(error(a, b) for a, b in zip(cut, whole, strict=True)) < FP64_ROUNDING


@given(old=st.integers(0, 20), new=st.integers(1, 6), stale=st.integers(0, 4), seed=SEEDS)
def test_a_window_computes_new_tokens_from_a_state_and_the_tokens_since(
    old: int, new: int, stale: int, seed: int
) -> None:
    # given a ring in which the tokens since the state lie wherever, beside empty places and tokens that were withdrawn
    state, x, dt, A, B, C, D, dt_bias = scan_inputs(old + new, seed, torch.float64)
    expected, _ = ssd_sequential(state, x, dt, A, B, C, D, dt_bias)
    before = torch.zeros(1, 6, dtype=torch.float64)
    sums, keys = log_decays(before, dt[None], A, dt_bias)
    ring = torch.randperm(32, generator=chance(seed))
    places, withdrawn = ring[: old + new], ring[old + new : old + new + stale]
    xs, Bs = torch.zeros(1, 6, 32, 5).double(), torch.zeros(1, 3, 32, 4).double()
    Ks = torch.full((1, 6, 32), torch.inf).double()
    xs[:, :, places], Bs[:, :, places], Ks[..., places] = heads_first(x), heads_first(B), keys
    xs[:, :, withdrawn], Ks[..., withdrawn] = 7.0, -3.0
    hidden = torch.zeros(1, 1, new, 32, dtype=torch.bool)
    hidden[..., withdrawn] = True
    for row in range(new):
        hidden[:, :, row, places[old + row + 1 :]] = True

    y = ssd_window(state[None], before, xs, Bs, Ks, heads_first(C[old:]), sums[..., old:], hidden)

    assert error(y[0].transpose(0, 1) + D[:, None] * x[old:], expected[old:]) < FP64_ROUNDING


@pytest.mark.parametrize("dt_shift", [-30.0, 30.0, 300.0])
def test_steps_that_forget_everything_or_nothing_stay_finite(dt_shift: float) -> None:
    inputs = list(scan_inputs(40, seed=3, dtype=torch.float32))
    inputs[-1] = inputs[-1] + dt_shift
    exact = ssd_sequential(*(tensor.double() for tensor in inputs))

    y, state = scanned(tuple(inputs), chunk=16)

    assert y.isfinite().all()
    assert error(y, exact[0]) < FP32_ROUNDING
    assert error(state, exact[1]) < FP32_ROUNDING


def test_a_step_too_small_for_a_number_adds_nothing() -> None:
    sums, keys = log_decays(torch.zeros(1, 1).double(), torch.full((1, 1, 1), -200.0), -torch.ones(1), torch.zeros(1))

    assert (float(sums), float(keys)) == (0.0, math.inf)


def test_an_empty_sequence_is_a_zeroed_state() -> None:
    _, x, dt, A, B, C, D, dt_bias = scan_inputs(1, seed=5, dtype=torch.float64)

    y, _ = scanned((torch.zeros(6, 5, 4).double(), x, dt, A, B, C, D, dt_bias), chunk=4)

    step = F.softplus(dt + dt_bias)[..., None]
    dot = (B * C).sum(-1).repeat_interleave(2, dim=1)[..., None]
    assert error(y, dot * step * x + D[:, None] * x) < FP64_ROUNDING


@given(length=LENGTHS, kernel=st.integers(2, 5), with_bias=st.booleans(), seed=SEEDS)
def test_the_convolution_is_torchs_depthwise_one(length: int, kernel: int, with_bias: bool, seed: int) -> None:
    window, weight = random(kernel - 1 + length, 7, seed=seed), random(7, kernel, seed=seed + 1)
    bias = random(7, seed=seed + 2) if with_bias else None

    y = causal_conv1d(window, weight, bias)

    expected = F.conv1d(window.T[None], weight[:, None], bias, groups=7)[0].T
    assert error(y, F.silu(expected)) < FP32_ROUNDING


@given(length=LENGTHS, seed=SEEDS)
def test_the_convolution_of_one_token_has_the_bits_of_the_whole_one(length: int, seed: int) -> None:
    window, weight, bias = random(3 + length, 7, seed=seed), random(7, 4, seed=seed + 1), random(7, seed=seed + 2)

    steps = causal_conv1d(torch.stack([window[i : i + 4] for i in range(length)]), weight, bias)

    assert torch.equal(steps[:, 0], causal_conv1d(window, weight, bias))
