"""Say where a decode step's time goes: torch's profile of it, by group of operations."""

import re
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from benchmarks.cases import Case, cases
from benchmarks.engines.ours import open_job
from benchmarks.job import Job, Length, Request, requests
from benchmarks.options import read_options
from benchmarks.results_file import Row, write
from benchmarks.table import show
from nemotron_api.hybrid_config import read_config
from nemotron_runtime import HybridEngine, SamplingParams, TokenEvent

GROUPS = {
    "matrix products": r"addmm|mm|bmm|matmul|linear|baddbmm|addmv|mv|dot|_scaled_mm|_grouped_mm|mkldnn.*",
    "attention": r".*attention.*|_softmax",
    "gather, scatter": r"(index.*|gather|scatter.*|embedding|take.*|masked.*|where|nonzero|bincount)_?",
    "sort": r"sort|argsort|topk|argmax|max|unique.*|searchsorted|cumsum",
    "copies": r"copy_|_to_copy|to|clone|contiguous|cat|stack|repeat.*|fill_|zero_|zeros|ones|full|new_.*",
    "views and allocation": (
        r"view|_?reshape.*|as_strided|select|slice|transpose|t|expand|unsqueeze|squeeze|split.*|permute|flatten"
        r"|empty.*|narrow|unbind|chunk|arange|resize.*|set_|lift.*|detach.*|alias"
    ),
    "elementwise and sums": r".*",
}
"""Patterns of torch's own operations; the first one that a name matches is its group."""

TORCHS = "aten::"

OWN = "own kernels"
"""Operations that are registered with torch but not torch's."""

OUTSIDE = "outside torch"
"""Python, what it waits for, and kernels that are called without torch's dispatcher."""

PROFILED_STREAMS = (1, 32)

STEPS = 48
ENDLESS_TOKENS = 32768
POLL_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation's own time over all its calls, without that of operations inside it."""

    name: str
    seconds: float


class Decoding:
    """Requests that go on and on in an engine, once all of them decode; they are aborted at the end."""

    def __init__(self, engine: HybridEngine, asked: Sequence[Request]) -> None:
        self._engine = engine
        self._all_decode, self._one_ended = threading.Event(), threading.Event()
        self._count, self._first_tokens = len(asked), set[int]()
        sampling = SamplingParams(max_tokens=ENDLESS_TOKENS, ignore_eos=True)
        self._ids = [engine.submit(request.prompt, sampling, self._sink) for request in asked]

    def __enter__(self) -> "Decoding":
        self._all_decode.wait()
        return self

    def __exit__(self, *_: object) -> None:
        for request_id in self._ids:
            self._engine.abort(request_id)

    def run(self, steps: int) -> float:
        """Seconds of a step, over at least so many. Raises RuntimeError when a request ends meanwhile."""
        began, first = time.perf_counter(), self._engine.stats().steps
        while (done := self._engine.stats().steps - first) < steps:
            time.sleep(POLL_SECONDS)
            if self._one_ended.is_set():
                raise RuntimeError("a request ended while its steps were profiled: raise ENDLESS_TOKENS")
        return (time.perf_counter() - began) / done

    def _sink(self, event: TokenEvent) -> None:
        self._first_tokens.add(event.request_id)
        if len(self._first_tokens) == self._count:
            self._all_decode.set()
        if event.finish_reason:
            self._one_ended.set()
            self._all_decode.set()


def group_of(name: str) -> str:
    if not name.startswith(TORCHS):
        return OWN
    return next(group for group, pattern in GROUPS.items() if re.fullmatch(pattern, name.removeprefix(TORCHS)))


def shares(operations: Iterable[Operation], seconds: float) -> dict[str, float]:
    """Each group's part of `seconds`, the largest first; what no operation took is outside torch."""
    parts: dict[str, float] = defaultdict(float)
    for operation in operations:
        parts[group_of(operation.name)] += operation.seconds / seconds
    parts[OUTSIDE] = 1 - sum(parts.values())
    return dict(sorted(parts.items(), key=lambda item: -item[1]))


def measure(case: Case) -> list[Row]:
    """A row per group: its part of a step under the profiler, and what that is of a step without it."""
    checkpoint = case.shape.checkpoint()
    vocab_size = read_config(checkpoint).vocab_size
    lengths = tuple(Length(each.prompt, ENDLESS_TOKENS) for each in case.lengths)
    job = Job(str(checkpoint), case.dtype, case.shape.threads, case.concurrent, lengths, 1, vocab_size)
    engine = open_job(job)
    try:
        with Decoding(engine, requests(lengths, vocab_size, seed=0)) as decoding:
            decoding.run(STEPS)
            step = decoding.run(STEPS)
            operations, seconds = _profiled(decoding)
    finally:
        engine.close()
    return [
        Row(case.name, group, 1e6 * step * share, "µs per step", step_share=share)
        for group, share in shares(operations, seconds).items()
    ]


def _profiled(decoding: Decoding) -> tuple[list[Operation], float]:
    """The operations of some steps, and how long those took."""
    # The engine computes on a thread of its own, which a profile of this one would not see.
    everywhere = _ExperimentalConfig(profile_all_threads=True)
    with profile(activities=[ProfilerActivity.CPU], experimental_config=everywhere) as profiler:
        began = time.perf_counter()
        decoding.run(STEPS)
        seconds = time.perf_counter() - began
    return [Operation(each.key, each.self_cpu_time_total / 1e6) for each in profiler.key_averages()], seconds


def main() -> None:
    options = read_options(__doc__)
    for case in cases():
        if case.concurrent in PROFILED_STREAMS and not case.is_mixed and options.wants(case.name):
            rows = measure(case)
            print(show(rows), flush=True)
            if not options.quick:
                write("profile", rows, ("torch",))


if __name__ == "__main__":
    main()
