"""Measure what the machine gives: how fast memory is read, how fast matrices are multiplied."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

DTYPES = {"FP32": torch.float32, "BF16": torch.bfloat16}

GEMM_ROWS = 1024

SECONDS = 0.5
"""How long each is measured."""


@dataclass(frozen=True, slots=True)
class Rates:
    """The best of many runs."""

    bytes_per_second: float
    flops_per_second: float


def measure(dtype: str, threads: int, read_bytes: int) -> Rates:
    """Reading `read_bytes` over and over (what fits a cache comes from it), and square products in `dtype`."""
    torch.set_num_threads(threads)
    memory = torch.ones(max(1, read_bytes // 4))
    left, right = (torch.randn(GEMM_ROWS, GEMM_ROWS).to(DTYPES[dtype]) for _ in range(2))
    return Rates(
        bytes_per_second=memory.nbytes / _fastest(lambda: memory.sum()),
        flops_per_second=2 * GEMM_ROWS**3 / _fastest(lambda: left @ right),
    )


def _fastest(run: Callable[[], object]) -> float:
    """Seconds of the fastest run; one before them warms up."""
    run()
    best, until = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        began = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - began)
    return best


if __name__ == "__main__":
    print(json.dumps(asdict(measure(**json.load(sys.stdin)))))
