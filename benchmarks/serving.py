"""Measure what Triton and the backend cost around an engine that costs nothing: latency, processor time, memory."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.results_file import Row, write
from benchmarks.table import show
from tests.builders.paced_engine import Pace
from tests.integration.load import Answer, Client, a_request, cpu_seconds, resident_bytes
from tests.integration.serving import Serving, a_paced_engine, launch

REPEATS: Final = 5
PACKAGES: Final = ("nvidia-pytriton", "tritonclient", "grpcio", "numpy")


@dataclass(frozen=True, slots=True)
class Cost:
    """A run's answers, its seconds, and the processor seconds the server and the model's process spent on it."""

    answers: Sequence[Answer]
    seconds: float
    server_cpu: float
    stub_cpu: float

    @property
    def cpu(self) -> float:
        return self.server_cpu + self.stub_cpu

    @property
    def tokens(self) -> int:
        return sum(len(answer.tokens) for answer in self.answers)

    @property
    def responses(self) -> int:
        return sum(len(answer.messages) for answer in self.answers)


@contextmanager
def serving(pace: Pace) -> Iterator[Serving]:
    """A ready server of that pace."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        server = launch(root, a_paced_engine(root, pace).model_copy(update={"max_waiting": 1024}), root / "serving")
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.stop()


async def cost(server: Serving, request: bytes, streams: int) -> Cost:
    """What that many streams at once cost."""
    pids = server.server(), server.stub()
    async with Client(server.grpc) as client:
        before, started = [cpu_seconds(pid) for pid in pids], time.perf_counter()
        answers = await client.ask_many(request, streams, at_once=streams)
        seconds = time.perf_counter() - started
        spent = [cpu_seconds(pid) - then for pid, then in zip(pids, before, strict=True)]
    broken = [answer.error for answer in answers if answer.error]
    if broken:
        raise RuntimeError(f"{len(broken)} of {streams} streams failed, the first with: {broken[0]}")
    return Cost(answers, seconds, *spent)


def repeated(server: Serving, tokens: int, streams: int) -> list[Cost]:
    """Some runs, after one that warms up."""
    request = a_request(input_ids=[20] * 128, max_tokens=tokens)
    return [asyncio.run(cost(server, request, streams)) for _ in range(REPEATS + 1)][1:]


def figure(case: str, metric: str, unit: str, values: Sequence[float], target: float | None = None) -> Row:
    """The median of the runs and their spread; a smaller value is better."""
    median = statistics.median(values)
    met = None if target is None else median <= target
    return Row(case, metric, median, unit, target=target, met=met, spread=(min(values), max(values)))


def percentile(values: Sequence[float], share: int) -> float:
    return statistics.quantiles(values, n=100)[share - 1]


def latency(case: str, runs: Sequence[Cost]) -> Iterator[Row]:
    """Time to the first token and between responses, in milliseconds, with every token delivered."""
    firsts = [[answer.first_token_seconds * 1e3 for answer in run.answers] for run in runs]
    gaps = [[gap * 1e3 for answer in run.answers for gap in answer.gaps] for run in runs]
    for share in (50, 99):
        yield figure(case, f"TTFT p{share}", "ms", [percentile(values, share) for values in firsts])
        yield figure(case, f"ITL p{share}", "ms", [percentile(values, share) for values in gaps])
    yield figure(case, "tokens/s", "1/s", [run.tokens / run.seconds for run in runs])
    yield figure(case, "tokens/response", "1", [run.tokens / run.responses for run in runs])


def memory(server: Serving, requests: int) -> Iterator[Row]:
    """How much larger the processes are after so many requests."""
    request = a_request(input_ids=[20] * 8, max_tokens=8)
    pids = {"server": server.server(), "stub": server.stub()}

    async def run(count: int) -> None:
        async with Client(server.grpc) as client:
            await client.ask_many(request, count, at_once=128)

    asyncio.run(run(1000))
    before = {name: resident_bytes(pid) for name, pid in pids.items()}
    asyncio.run(run(requests))
    for name, pid in pids.items():
        grown = (resident_bytes(pid) - before[name]) / 2**20
        yield figure(f"{requests} requests", f"{name} RSS before", "MiB", [before[name] / 2**20])
        yield figure(f"{requests} requests", f"{name} RSS grown", "MiB", [grown], target=8)


def measure() -> Iterator[Row]:
    with serving(Pace(0.002, slots=64)) as server:
        runs = repeated(server, tokens=400, streams=64)
        case = "64 streams, 2 ms steps"
        yield figure(case, "CPU/token", "µs", [run.cpu / run.tokens * 1e6 for run in runs], target=30)
        yield from latency(case, runs)
    with serving(Pace(0.02, slots=256)) as server:
        runs = repeated(server, tokens=100, streams=64)
        case = "64 streams, 20 ms steps"
        yield figure(case, "CPU/response", "µs", [run.cpu / run.responses * 1e6 for run in runs], target=110)
        yield from latency(case, runs)
        yield from latency("256 streams, 20 ms steps", repeated(server, tokens=100, streams=256))
        yield from memory(server, 10_000)


if __name__ == "__main__":
    rows = list(measure())
    print(show(rows))
    print(write("serving", rows, PACKAGES))
