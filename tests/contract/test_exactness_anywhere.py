"""Tier E1 needs nothing of a library but the same bits for the same shape: what a GPU gives, too."""

# mypy: disable-error-code="no-untyped-call"

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nemotron_kernels.activation import softplus
from nemotron_kernels.reduction import mean, mean_by_halves, sum_by_halves
from nemotron_kernels.ssd import in_units, log_decays
from nemotron_runtime import arithmetic, executor
from nemotron_runtime.config import Precision
from tests.builders.company import Guesser, Prefix, Room, serve
from tests.builders.hostile import Hostile, open_hostile
from tests.builders.numbers import FP32_ROUNDING, SEEDS, error
from tests.builders.numbers import random as numbers
from tests.contract.test_exactness import VOCABULARY, a_crowd, alone, packed

pytestmark = pytest.mark.contract


@pytest.mark.parametrize(
    ("changes", "dtype"),
    [
        pytest.param({}, "FP32", id="all-four-kinds-of-block"),
        pytest.param({}, "BF16", id="in-BF16"),
        pytest.param({"mamba_num_heads": 12, "mamba_head_dim": 80}, "FP32", id="a-wide-norm"),
    ],
)
def test_company_changes_no_bit_where_every_shape_rounds_in_its_own_way(
    changes: dict[str, Any], dtype: Precision, tmp_path: Path
) -> None:
    directory, asks = packed(tmp_path, changes, dtype), a_crowd(seed=1)[:9]
    logits: dict[Prefix, Tensor] = {}
    expected = alone(directory, asks, logits, open_hostile)
    answers = {ask.prompt: answer for ask, answer in zip(asks, expected, strict=True)}
    guesser = Guesser(answers, random.Random(2), VOCABULARY)
    room = Room(pages=18, prefill_tokens=40)

    crowded, recorder, engine = serve(directory, asks, room, logits, guesser, exact=True, opener=open_hostile)

    stats = engine.stats()
    assert len(recorder.differing) == 0, f"{len(recorder.differing)} of {recorder.rows} rows differ"
    assert crowded == expected
    assert min(stats.preemptions, stats.prefix_hit_tokens, stats.accepted_tokens) > 0


@pytest.mark.parametrize("operation", ["linear", "mean", "window", "attend_window"])
def test_exact_mode_with_a_fast_operation_shows_it(
    operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, asks = packed(tmp_path, {}, "FP32"), a_crowd(seed=1)[:6]
    logits: dict[Prefix, Tensor] = {}
    alone(directory, asks, logits, open_hostile)
    lacking = dataclasses.replace(arithmetic.EXACT, **{operation: getattr(arithmetic.FAST, operation)})
    monkeypatch.setattr(executor, "EXACT", lacking)

    _, recorder, _ = serve(directory, asks, Room(prefill_tokens=40), logits, exact=True, opener=open_hostile)

    assert recorder.differing


@given(rows=st.integers(1, 40), length=st.integers(1, 300), seed=SEEDS)
def test_a_row_added_up_by_halves_has_bits_of_its_own(rows: int, length: int, seed: int) -> None:
    x = numbers(rows, length, seed=seed)
    with Hostile():
        together, alone_there = sum_by_halves(x), torch.cat([sum_by_halves(row[None]) for row in x])

    assert torch.equal(together, alone_there)
    assert error(mean_by_halves(x), x.double().mean(-1, keepdim=True)) < FP32_ROUNDING


@given(cuts=st.sets(st.integers(1, 59), max_size=6), seed=SEEDS)
def test_log_decays_in_units_are_the_same_wherever_they_are_cut(cuts: set[int], seed: int) -> None:
    dt, A = numbers(1, 60, 6, seed=seed), -numbers(6, seed=seed + 1).exp()
    before, found = torch.zeros(1, 6, dtype=torch.float64), []
    with Hostile():
        whole, _ = log_decays(before, dt, A, torch.zeros(6), softplus, in_units)
        for part in torch.tensor_split(dt, sorted(cuts), dim=1):
            sums, _ = log_decays(before, part, A, torch.zeros(6), softplus, in_units)
            before = sums[..., -1]
            found.append(sums)

    assert torch.equal(torch.cat(found, -1), whole)


def test_these_libraries_do_round_each_shape_in_its_own_way() -> None:
    # given what exact mode does without: long sums, products and running sums of as many as there are
    x, weight = numbers(40, 300, seed=1), numbers(8, 300, seed=2)
    with Hostile():
        sums = [torch.equal(mean(x[:n]), mean(x)[:n]) for n in range(1, 9)]
        products = [torch.equal(x[:n] @ weight.T, (x @ weight.T)[:n]) for n in range(1, 9)]
        wide = x.double().exp()
        running = [torch.equal(wide[:, :n].cumsum(-1), wide.cumsum(-1)[:, :n]) for n in range(20, 29)]

    assert not any(map(all, (sums, products, running)))
