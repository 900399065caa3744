"""List what is measured: models, how many requests of what lengths, and what we aim at."""

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import models
from benchmarks.job import Length


@dataclass(frozen=True, slots=True)
class Shape:
    """A model under test, and how much of it fits a run."""

    name: str
    checkpoint: Callable[[], Path]
    threads: int
    equal: Length
    """Every request of the cases with equal lengths."""
    prompts: tuple[int, int]
    outputs: tuple[int, int]
    """The shortest and the longest of the case with mixed lengths."""
    mixed_requests: int
    mixed_repeats: int


@dataclass(frozen=True, slots=True)
class Case:
    """Requests in a shape and element type."""

    shape: Shape
    dtype: str
    concurrent: int
    lengths: tuple[Length, ...]
    is_mixed: bool = False

    @property
    def name(self) -> str:
        if not self.is_mixed:
            each = self.lengths[0]
            return f"{self.shape.name} {self.dtype}, {self.concurrent} × ({each.prompt} + {each.output})"
        (least, most), (few, many) = self.shape.prompts, self.shape.outputs
        lengths = f"({least}–{most} + {few}–{many})"
        return f"{self.shape.name} {self.dtype}, mixed: {len(self.lengths)} × {lengths}, {self.concurrent} at a time"


SHAPES = (
    Shape("tiny", models.tiny, 1, Length(64, 128), (16, 512), (16, 256), 128, 5),
    # A run of the wide model takes seconds per step on a few cores: shorter, and mixed lengths once.
    Shape("wide", models.wide, 2, Length(16, 24), (16, 128), (16, 64), 64, 1),
)

STREAMS = (1, 8, 32, 128)
MIXED_STREAMS = 32
DTYPES = ("FP32", "BF16")

TARGETS: Mapping[tuple[str, str], float] = {
    ("tiny", "1"): 4.0,
    ("tiny", "32"): 3.0,
    ("tiny", "mixed"): 5.0,
    ("wide", "1"): 1.15,
    ("wide", "32"): 1.5,
    ("wide", "mixed"): 5.0,
}
"""How many times as many tokens per second as `transformers`, by shape and streams."""


def target(case: Case) -> float | None:
    return TARGETS.get((case.shape.name, "mixed" if case.is_mixed else str(case.concurrent)))


def cases() -> list[Case]:
    """Every case, the small ones first."""
    return [case for shape in SHAPES for dtype in DTYPES for case in (*_equal(shape, dtype), _mixed(shape, dtype))]


def log_uniform(least: int, most: int, chance: random.Random) -> int:
    """A length between both, every doubling equally likely."""
    return round(math.exp(chance.uniform(math.log(least), math.log(most))))


def _equal(shape: Shape, dtype: str) -> list[Case]:
    return [Case(shape, dtype, streams, (shape.equal,) * streams) for streams in STREAMS]


def _mixed(shape: Shape, dtype: str) -> Case:
    chance = random.Random(0)
    lengths = tuple(
        Length(log_uniform(*shape.prompts, chance), log_uniform(*shape.outputs, chance))
        for _ in range(shape.mixed_requests)
    )
    return Case(shape, dtype, MIXED_STREAMS, lengths, is_mixed=True)
