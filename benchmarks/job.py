"""Say what one engine is to do, and what it says of it: the JSON between the benchmark and an engine's process.

Standard library only: llama.cpp's process has an environment of its own.
"""

import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

FIRST_TEXT_TOKEN = 3
"""Prompts keep clear of the padding, start and end tokens."""


@dataclass(frozen=True, slots=True)
class Length:
    """Tokens of one request: those it brings and those it asks for."""

    prompt: int
    output: int

    @property
    def total(self) -> int:
        return self.prompt + self.output


@dataclass(frozen=True, slots=True)
class Job:
    """One case for one engine."""

    checkpoint: str
    dtype: str
    threads: int
    concurrent: int
    """Requests that may run at the same time."""
    lengths: tuple[Length, ...]
    repeats: int
    vocab_size: int
    with_prefill: bool = True
    """Whether to time the prompts alone, too."""

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(length.total for length in self.lengths)

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "Job":
        raw = json.loads(text)
        return cls(**{**raw, "lengths": tuple(Length(**length) for length in raw["lengths"])})


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and how many tokens to generate after it, whatever they are."""

    prompt: list[int]
    output: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What was generated, and when each token arrived, in seconds after all requests were handed over."""

    tokens: list[int]
    times: list[float]


@dataclass(frozen=True, slots=True)
class Timing:
    """What one repeat showed."""

    total: float
    """Tokens asked for per second, from the first prompt to the last token."""
    first_token: float
    """Seconds until half of the requests had their first token."""
    decode: float | None = None
    """Tokens per second while every request decodes; None where that is never so."""
    prefill: float | None = None
    """Prompt tokens per second when one token of each answer is asked for."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What an engine's process prints as its last line."""

    variant: str
    """How the engine was set up, where there was a choice."""
    timings: tuple[Timing, ...]
    answers: list[list[int]]
    """The tokens of the first repeat."""
    peak_bytes: int
    """Resident memory of the process at its largest."""

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> "Measured":
        raw: dict[str, Any] = json.loads(text)
        return cls(**{**raw, "timings": tuple(Timing(**timing) for timing in raw["timings"])})

    def median(self, name: str) -> tuple[float, tuple[float, float]] | None:
        """The median of one figure over the repeats, and its spread; None where it was not measured."""
        values = [value for timing in self.timings if (value := getattr(timing, name)) is not None]
        return (statistics.median(values), (min(values), max(values))) if values else None


def requests(lengths: Sequence[Length], vocab_size: int, seed: int) -> list[Request]:
    """Prompts of random tokens, others for every seed: an engine that keeps prefixes finds none."""
    chance = random.Random(seed)
    tokens = range(FIRST_TEXT_TOKEN, vocab_size)
    return [Request(chance.choices(tokens, k=length.prompt), length.output) for length in lengths]


def summarise(asked: Sequence[Request], answers: Sequence[Answer]) -> Timing:
    """The figures of one run. Raises ValueError when an answer is shorter than what was asked for."""
    if any(len(answer.times) < request.output for request, answer in zip(asked, answers, strict=True)):
        raise ValueError("an engine generated fewer tokens than it was asked for: it must ignore the end of text")
    times = [answer.times[: request.output] for request, answer in zip(asked, answers, strict=True)]
    return Timing(
        total=sum(map(len, times)) / max(each[-1] for each in times),
        first_token=statistics.median(each[0] for each in times),
        decode=_steady(times),
    )


def prompt_rate(asked: Sequence[Request], answers: Sequence[Answer]) -> float:
    """Prompt tokens per second until every request had its first token."""
    return sum(len(request.prompt) for request in asked) / max(answer.times[0] for answer in answers)


def _steady(times: Sequence[Sequence[float]]) -> float | None:
    """Tokens per second between the last first token and the first last one."""
    began, ended = max(each[0] for each in times), min(each[-1] for each in times)
    tokens = sum(began < moment <= ended for each in times for moment in each)
    return tokens / (ended - began) if tokens >= 2 * len(times) else None
