"""Drive this project's runtime."""

import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from benchmarks.engines.child import main
from benchmarks.job import Answer, Job, Request
from nemotron_runtime import HybridEngine, SamplingParams, TokenEvent, open_engine, pack
from nemotron_runtime.config import Precision


class Ours:
    """An engine packed for the job and opened."""

    def __init__(self, engine: HybridEngine) -> None:
        self._engine = engine

    @property
    def variant(self) -> str:
        """What other engines do not have, as far as it was of use."""
        stats = self._engine.stats()
        used = {
            f"{stats.accepted_tokens} of {stats.drafted_tokens} drafted tokens accepted": stats.drafted_tokens,
            f"{stats.prefix_hit_tokens} prompt tokens found computed": stats.prefix_hit_tokens,
            f"{stats.preemptions} preemptions": stats.preemptions,
        }
        return ", ".join(text for text, count in used.items() if count)

    def run(self, asked: Sequence[Request]) -> list[Answer]:
        answers = [Answer([], []) for _ in asked]
        left = threading.Semaphore(0)
        began = time.perf_counter()
        for request, answer in zip(asked, answers, strict=True):

            def sink(event: TokenEvent, answer: Answer = answer) -> None:
                if event.token is not None:
                    answer.tokens.append(event.token)
                    answer.times.append(time.perf_counter() - began)
                if event.finish_reason:
                    left.release()

            self._engine.submit(request.prompt, SamplingParams(max_tokens=request.output, ignore_eos=True), sink)
        for _ in asked:
            left.acquire()
        return answers

    def close(self) -> None:
        self._engine.close()


def open_job(job: Job, device: str = "cpu") -> HybridEngine:
    """The job's checkpoint, packed into a folder that is gone once its weights are read."""
    with tempfile.TemporaryDirectory(prefix="nemotron-bench-") as folder:
        precision = cast(Precision, job.dtype)
        pack(
            Path(job.checkpoint),
            Path(folder),
            dtype=precision,
            max_batch=job.concurrent,
            max_sequence_tokens=job.longest,
        )
        return open_engine(Path(folder), threads=job.threads, max_waiting=len(job.lengths), device=device)


def build(job: Job) -> Ours:
    return Ours(open_job(job))


if __name__ == "__main__":
    main(build)
