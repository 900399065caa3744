"""Run one engine over one job and print what was measured."""

import resource
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from benchmarks.job import Answer, Job, Measured, Request, Timing, prompt_rate, requests, summarise

WARM_UP_TOKENS = 2


class Subject(Protocol):
    """An engine with a model loaded."""

    @property
    def variant(self) -> str:
        """How it is set up, where there was a choice."""

    def run(self, asked: Sequence[Request]) -> list[Answer]:
        """Generate greedily, all requests handed over at once, and exactly as many tokens as each asks for."""

    def close(self) -> None:
        """Stop what still runs."""


def measure(subject: Subject, job: Job) -> Measured:
    """A run to warm up, then the repeats, each with prompts of its own."""
    subject.run(_cut(requests(job.lengths, job.vocab_size, seed=-1), WARM_UP_TOKENS))
    answers = subject.run(asked := requests(job.lengths, job.vocab_size, seed=0))
    timings = [_timing(subject, job, summarise(asked, answers), seed=1)]
    for repeat in range(1, job.repeats):
        asked = requests(job.lengths, job.vocab_size, seed=2 * repeat)
        timings.append(_timing(subject, job, summarise(asked, subject.run(asked)), seed=2 * repeat + 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(subject.variant, tuple(timings), [answer.tokens for answer in answers], peak)


def main(build: Callable[[Job], Subject]) -> None:
    """The job comes in on stdin; the last line of stdout is what was measured."""
    job = Job.load(sys.stdin.read())
    subject = build(job)
    try:
        print(measure(subject, job).dump(), flush=True)
    finally:
        subject.close()


def _timing(subject: Subject, job: Job, timing: Timing, seed: int) -> Timing:
    """The timing of a whole run, with that of the prompts alone beside it."""
    if not job.with_prefill:
        return timing
    asked = _cut(requests(job.lengths, job.vocab_size, seed), 1)
    rate = prompt_rate(asked, subject.run(asked))
    return Timing(timing.total, timing.first_token, timing.decode, rate)


def _cut(asked: Sequence[Request], tokens: int) -> list[Request]:
    return [Request(request.prompt, min(tokens, request.output)) for request in asked]
