"""Count observations in buckets by their upper bounds, as Prometheus does."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

STEP_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)


@dataclass(frozen=True, slots=True)
class Observed:
    """What was observed up to some moment: `counts` has one number per bound, and one for all that is beyond."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float = 0.0

    @property
    def buckets(self) -> dict[str, int]:
        """Cumulative count by upper bound; `+Inf` is the count of all."""
        bounds = [*(f"{bound:g}" for bound in self.bounds), "+Inf"]
        return dict(zip(bounds, accumulate(self.counts), strict=True))


class Histogram:
    """Observations so far; not safe for threads."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def observed(self) -> Observed:
        return Observed(self._bounds, tuple(self._counts), self._sum)


NO_STEPS: Final = Histogram(STEP_SECONDS).observed
