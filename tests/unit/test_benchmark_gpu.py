"""What `make gpu` measures becomes rows, and names its commit where there is no git."""

from pathlib import Path

import pytest
import torch

from benchmarks import gpu_kernels, launches, results_file
from benchmarks.gpu import CASES, LENGTH, rows
from benchmarks.job import Measured, Timing
from benchmarks.launches import Work
from benchmarks.models import TINY
from benchmarks.rates import Rates
from benchmarks.runtime import ELEMENT_BYTES, mean_context
from benchmarks.work import decode_step
from nemotron_api.hybrid_config import read_config

pytestmark = pytest.mark.unit


def test_decoding_is_held_against_the_bytes_that_a_step_must_read() -> None:
    # given half of what the device can read, and a quarter of what it can multiply
    case, config = CASES[1], read_config(TINY)
    step = decode_step(config, case.streams, mean_context((LENGTH,)), ELEMENT_BYTES[case.dtype])
    measured = Measured("", (Timing(1.0, 0.25, 2.0 * case.streams, 512.0),), [], 0)

    decode, prefill, first = rows(case, config, measured, Rates(4 * step.bytes, 8 * step.flops))

    assert (decode.case, decode.metric, decode.value) == (case.name, "decode", 2.0 * case.streams)
    assert (decode.bandwidth_share, decode.gemm_share) == pytest.approx((0.5, 0.25))
    assert (prefill.metric, prefill.value, prefill.bandwidth_share) == ("prefill", 512.0, None)
    assert (first.metric, first.value, first.gemm_share) == ("first token", 0.25, None)


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES] + [case.name for case in gpu_kernels.cases()]

    assert len(set(names)) == len(names)


def test_a_kernel_is_held_against_the_bytes_that_it_must_move() -> None:
    # given states of 2 MiB, of which one in FP16 takes half
    with torch.device("meta"):
        wide, half = (launches.step(kept)(launches.SIZES["Nano"], 32) for kept in (torch.float32, torch.float16))
    case = gpu_kernels.Case("Nano", "step", 32)

    row = gpu_kernels.row(case, Work(wide.launches, 3000), [2.0, 3.0, 9.0], bytes_per_second=2000.0)

    assert wide.bytes - half.bytes == 32 << 20
    assert 64 << 20 < wide.bytes < 80 << 20
    assert (row.value, row.spread, row.bandwidth_share) == (3e6, (2e6, 9e6), 0.5)


@pytest.mark.parametrize("model", launches.SIZES)
def test_the_kernels_of_every_model_can_be_made(model: str) -> None:
    sizes = launches.SIZES[model]
    with torch.device("meta"):
        found = {name: make(sizes, 2) for name, make in launches.makers(sizes).items()}

    assert all(work.bytes > 0 and all(all(launch.grid) for launch in work.launches) for work in found.values())
    assert ("experts" in found) == (sizes.experts is not None)


def test_without_git_the_commit_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_file, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("COMMIT", "1234abc")
    assert results_file.measured_commit() == "1234abc"

    monkeypatch.delenv("COMMIT")
    with pytest.raises(SystemExit, match="no git checkout: say which commit it is with COMMIT="):
        results_file.measured_commit()
