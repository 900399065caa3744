"""Time every fused kernel on this machine's CUDA device, beside the bytes that it has to move."""

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks.gpu import DEVICE, rates
from benchmarks.launches import SIZES, Work, makers, route, run_experts
from benchmarks.options import read_options
from benchmarks.results_file import Row, measured_commit, write
from benchmarks.table import show

REPEATS = 15
FORGOTTEN_BYTES = 256 << 20
"""Written before each run, several times what the second-level cache holds: a step finds nothing of its own there."""
MODELS = ("Nano", "Super", "Nano 4B")

FEW, MANY, LONG = (1, 8), (1, 32, 256), (1, 32)


@dataclass(frozen=True, slots=True)
class Case:
    """One kernel of a model, for so many sequences or tokens."""

    model: str
    kernel: str
    rows: int

    @property
    def name(self) -> str:
        return f"{self.model} {self.kernel}, {self.rows}"


def cases() -> Iterator[Case]:
    for model in MODELS:
        for kernel, make in makers(SIZES[model]).items():
            longest = kernel.startswith("attention at 64k")
            counts = FEW if make in (route, run_experts) else LONG if longest else MANY
            yield from (Case(model, kernel, count) for count in counts)


def row(case: Case, work: Work, seconds: list[float], bytes_per_second: float) -> Row:
    """Microseconds, with their part of what a copy moves."""
    median = statistics.median(seconds)
    share = work.bytes / bytes_per_second / median
    spread = min(seconds) * 1e6, max(seconds) * 1e6
    return Row(case.name, "kernel", median * 1e6, "µs", spread=spread, bandwidth_share=share)


def timed(work: Work, repeats: int) -> list[float]:
    """Seconds of each run of a graph of the work's launches, by the device's own clock."""
    forget = torch.empty(FORGOTTEN_BYTES, dtype=torch.uint8, device=DEVICE)
    graph, found = _captured(work), []
    for _ in range(repeats):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        forget.zero_()
        began.record()
        graph.replay()
        ended.record()
        torch.cuda.synchronize()
        found.append(began.elapsed_time(ended) / 1e3)
    return found


def _captured(work: Work) -> torch.cuda.CUDAGraph:
    """A graph of the launches, compiled by a run before."""
    _launch(work)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        _launch(work)
    graph.replay()
    return graph


def _launch(work: Work) -> None:
    for launch in work.launches:
        launch.run()


def measure(case: Case, repeats: int, bytes_per_second: float) -> Row:
    with torch.device(DEVICE):
        work = makers(SIZES[case.model])[case.kernel](SIZES[case.model], case.rows)
    try:
        return row(case, work, timed(work, repeats), bytes_per_second)
    finally:
        del work
        torch.cuda.empty_cache()


def main() -> None:
    options = read_options(__doc__)
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu_kernels: torch finds no CUDA device here: see nvidia-smi")
    # What is measured has to be named: not after minutes of measuring.
    measured_commit()
    given = rates("BF16").bytes_per_second
    found = [measure(case, 3 if options.quick else REPEATS, given) for case in cases() if options.wants(case.name)]
    print(show(found), flush=True)
    if not options.quick:
        write("gpu-kernels", found, ("torch", "triton", "numpy"), gpu=torch.cuda.get_device_name())


if __name__ == "__main__":
    main()
