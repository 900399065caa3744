"""What engines measured becomes rows: ours beside each peer, its target, its share of what the machine gives."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cases import cases
from benchmarks.job import Measured, Timing
from benchmarks.models import TINY
from benchmarks.processes import LLAMA, LLAMA_PYTHON, Engine, EngineFailed
from benchmarks.rates import Rates
from benchmarks.results_file import Row
from benchmarks.runtime import Outcome, run_peer
from nemotron_api.hybrid_config import read_config

pytestmark = pytest.mark.unit

RATES = Rates(bytes_per_second=1e10, flops_per_second=1e11)


def measured(decode: float, tokens: list[int] | None = None) -> Measured:
    timing = Timing(total=decode, first_token=1 / decode, decode=decode, prefill=10 * decode)
    return Measured("", (timing,), [tokens or [1, 2]], 1 << 20)


def an_outcome(
    ours: float, failed: dict[str, str] | None = None, case: str = "tiny FP32, 32 ×", **peers: float
) -> Outcome:
    (chosen,) = (each for each in cases() if each.name.startswith(case))
    engines = {"ours": measured(ours), **{name: measured(rate) for name, rate in peers.items()}}
    return Outcome(chosen, read_config(TINY), RATES, engines, failed or {})


def the_row(outcome: Outcome, metric: str, peer: str | None) -> Row:
    (row,) = (row for row in outcome.rows() if row.metric == metric and row.peer == peer)
    return row


@given(ours=st.floats(1, 1e4), theirs=st.floats(1, 1e4))
def test_a_target_is_met_exactly_when_the_ratio_reaches_it(ours: float, theirs: float) -> None:
    row = the_row(an_outcome(ours, transformers=theirs), "decode", "transformers")
    assert row.met == (ours / theirs >= 3.0)
    assert row.target == 3.0


def test_targets_are_set_by_transformers_alone() -> None:
    outcome = dataclasses.replace(
        an_outcome(100.0, transformers=50.0),
        measured={"ours": measured(100.0), "transformers": measured(50.0), "llama.cpp": measured(10.0)},
    )
    assert [row.peer for row in outcome.rows() if row.target] == ["transformers"]
    assert the_row(outcome, "decode", "llama.cpp").ratio == pytest.approx(10.0)


def test_a_peer_that_failed_leaves_our_figure_and_the_reason() -> None:
    outcome = an_outcome(100.0, {"llama.cpp": LLAMA.missing}, transformers=50.0)
    row = the_row(outcome, "decode", None)
    assert (row.value, row.peer_value, row.ratio) == (100.0, None, None)
    assert "make bench-llama" in str(row.note)


def test_a_peer_that_is_not_built_fails_with_how_to_build_it() -> None:
    absent = Engine("llama.cpp", "benchmarks.engines.llama", LLAMA_PYTHON / "absent", LLAMA.missing)
    with pytest.raises(EngineFailed, match="make bench-llama"):
        run_peer(absent, None)  # type: ignore[arg-type]  # an engine that is absent is given no job


@given(rate=st.floats(1, 1e4))
def test_shares_of_the_machine_grow_with_our_rate(rate: float) -> None:
    one, twice = (the_row(an_outcome(value, transformers=1.0), "decode", "transformers") for value in (rate, 2 * rate))
    assert one.bandwidth_share
    assert one.gemm_share
    assert twice.bandwidth_share == pytest.approx(2 * one.bandwidth_share)
    assert twice.gemm_share == pytest.approx(2 * one.gemm_share)


def test_tokens_are_compared_in_fp32_only() -> None:
    compared = {
        dtype: [
            row for row in an_outcome(1.0, case=f"tiny {dtype}, 1 ×", transformers=1.0).rows() if row.unit == "share"
        ]
        for dtype in ("FP32", "BF16")
    }
    assert [(row.peer, row.value) for row in compared["FP32"]] == [("transformers", 1.0)]
    assert not compared["BF16"]
