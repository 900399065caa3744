"""Measure decoding on this machine's CUDA device, beside what its memory and its matrix units give."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.engines.child import measure
from benchmarks.engines.ours import Ours, open_job
from benchmarks.job import Job, Length, Measured
from benchmarks.models import tiny, wide
from benchmarks.options import read_options
from benchmarks.rates import DTYPES, Rates
from benchmarks.results_file import Row, measured_commit, write
from benchmarks.runtime import DECODE, ELEMENT_BYTES, FIRST, PREFILL, REPEATS, figure, mean_context
from benchmarks.table import show
from benchmarks.work import decode_step, prompt_flops
from nemotron_api.hybrid_config import HybridConfig, read_config

DEVICE = "cuda"

LENGTH = Length(128, 128)

COPIED_BYTES = 4 << 30
GEMM_ROWS = 8192
RATE_RUNS = 20


@dataclass(frozen=True, slots=True)
class Case:
    """A model in one element type, with so many streams at a time."""

    model: str
    checkpoint: Callable[[], Path]
    dtype: str
    streams: int

    @property
    def name(self) -> str:
        return f"{self.model} {self.dtype}, {self.streams} × ({LENGTH.prompt} + {LENGTH.output})"


CASES = (
    *(Case("tiny", tiny, "FP32", streams) for streams in (1, 32)),
    *(Case("wide", wide, dtype, streams) for dtype in ("FP32", "BF16") for streams in (1, 8, 64)),
)


def rates(dtype: str) -> Rates:
    """Bytes read and written by a large copy, and operations of a large product of random matrices, per second."""
    source = torch.empty(COPIED_BYTES // 2, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    left, right = (torch.randn(GEMM_ROWS, GEMM_ROWS, device=DEVICE).to(DTYPES[dtype]) for _ in range(2))
    return Rates(
        bytes_per_second=COPIED_BYTES / _seconds(lambda: target.copy_(source)),
        flops_per_second=2 * GEMM_ROWS**3 / _seconds(lambda: left @ right),
    )


def _seconds(run: Callable[[], object]) -> float:
    """The median of several runs, by the device's own clock; one before them warms up."""
    run()
    found: list[float] = []
    for _ in range(RATE_RUNS):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        began.record()
        run()
        ended.record()
        torch.cuda.synchronize()
        found.append(began.elapsed_time(ended) / 1e3)
    return sorted(found)[RATE_RUNS // 2]


def rows(case: Case, config: HybridConfig, measured: Measured, given: Rates) -> Iterator[Row]:
    """Each figure, decoding and prompts with their part of the device's two rates."""
    step = decode_step(config, case.streams, mean_context((LENGTH,)), ELEMENT_BYTES[case.dtype])
    prompt = prompt_flops(config, (LENGTH,)) / LENGTH.prompt
    needed = {DECODE: (step.bytes / case.streams, step.flops / case.streams), PREFILL: (0.0, prompt), FIRST: None}
    for metric, work in needed.items():
        value, spread = figure(measured, metric)
        shares = (value * work[0] / given.bytes_per_second, value * work[1] / given.flops_per_second) if work else ()
        bandwidth, gemm = (share or None for share in (*shares, None, None)[:2])
        yield Row(
            case.name,
            metric.name,
            value,
            metric.unit,
            spread=spread,
            bandwidth_share=bandwidth,
            gemm_share=gemm,
            note=measured.variant or None,
        )


def run(case: Case, repeats: int) -> list[Row]:
    checkpoint = case.checkpoint()
    config = read_config(checkpoint)
    lengths = (LENGTH,) * case.streams
    job = Job(str(checkpoint), case.dtype, 1, case.streams, lengths, repeats, config.vocab_size)
    engine = Ours(open_job(job, DEVICE))
    try:
        return list(rows(case, config, measure(engine, job), rates(case.dtype)))
    finally:
        engine.close()
        torch.cuda.empty_cache()


def main() -> None:
    options = read_options(__doc__)
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: torch finds no CUDA device here: see nvidia-smi")
    # What is measured has to be named: not after minutes of measuring.
    measured_commit()
    for case in (case for case in CASES if options.wants(case.name)):
        found = run(case, 1 if options.quick else REPEATS)
        print(show(found), flush=True)
        if not options.quick:
            write("gpu", found, ("torch", "triton", "numpy"), gpu=torch.cuda.get_device_name())


if __name__ == "__main__":
    main()
