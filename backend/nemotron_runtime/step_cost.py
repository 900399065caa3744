"""Predict how long a decode step takes, from the steps that were measured."""

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TRUST = 32.0
"""Measurements of one shape that its mean looks back on."""

FADE = 0.995
"""What is left of every mean's weight at each fit, so that shapes which no longer occur do not rule for ever."""

FIT_EVERY = 64
"""Measurements between two fits; a shape that was never seen is fitted at once."""

OUTLIER = 2.0
"""A step that took more than this many times the mean of its shape was held up by something else: it counts as this."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """Seconds of a step: a fixed part, and so much per row, per expert that is read, and per pass of a draft module."""

    row: float
    expert: float
    fixed: float
    draft: float
    experts: int
    """Routed experts of a block; 0 for a model without."""
    chosen: int
    """Experts of one token."""

    def seconds(self, rows: int, passes: int = 0) -> float:
        """The seconds of a step of so many rows, after so many passes."""
        return float(self.each(rows, passes))

    def each(self, rows: Any, passes: Any) -> Any:
        """The same of numbers or, place by place, of arrays."""
        read = distinct(rows, self.experts, self.chosen)
        return self.row * rows + self.expert * read + self.fixed + self.draft * passes


def distinct(rows: Any, experts: int, chosen: int) -> Any:
    """Experts that at least one of so many rows chooses, when each chooses evenly: e · (1 − (1 − k/e)^rows)."""
    return experts * (1 - (1 - chosen / experts) ** rows) if experts else 0.0 * rows


@dataclass(slots=True)
class Mean:
    """The seconds that steps of one shape took of late."""

    seconds: float
    weight: float = 1.0

    def add(self, seconds: float) -> None:
        self.weight = min(self.weight + 1, TRUST)
        self.seconds += (min(seconds, OUTLIER * self.seconds) - self.seconds) / self.weight


@dataclass(slots=True)
class StepTimes:
    """Measured steps, and the cost that fits them best. Not safe for threads."""

    experts: int
    chosen: int
    cost: StepCost | None = None
    """None until a step was measured."""
    _means: dict[tuple[int, int], Mean] = field(default_factory=dict)
    _since_fit: int = 0

    def add(self, rows: int, passes: int, seconds: float) -> None:
        """Note a measured step: its rows, the passes of the draft module before it, and the seconds of both."""
        self._since_fit += 1
        if mean := self._means.get((rows, passes)):
            mean.add(seconds)
        else:
            self._means[rows, passes] = Mean(seconds)
            self._since_fit = FIT_EVERY
        if self._since_fit >= FIT_EVERY:
            self._fit()

    def _fit(self) -> None:
        self._since_fit = 0
        for mean in self._means.values():
            mean.weight *= FADE
        shapes = np.array(list(self._means), dtype=np.float64)
        rows, passes = shapes.T
        seconds = np.array([mean.seconds for mean in self._means.values()])
        features = np.stack([rows, distinct(rows, self.experts, self.chosen), np.ones_like(rows), passes], axis=-1)
        # Errors count relative to the step: half a millisecond matters to a short one.
        weights = np.sqrt([mean.weight for mean in self._means.values()]) / seconds
        row, expert, fixed, draft = fit(features * weights[:, None], seconds * weights)
        self.cost = StepCost(row, expert, fixed, draft, self.experts, self.chosen)


def fit(features: Floats, values: Floats) -> list[float]:
    """Coefficients, none negative, that map features (n, f) to values (n) with the least square error.

    Fewer, and then earlier, features win where more fit no better. With rows as the first of them, a cost is thought
    to grow with every row until something else was measured.
    """
    scale = np.linalg.norm(features, axis=0)
    used = np.flatnonzero(scale)
    gram, moments = features.T @ features, features.T @ values
    floor = 1e-9 * float(values @ values)
    best, least = np.zeros(len(scale)), np.inf
    for size in range(1, len(used) + 1):
        for chosen in map(list, combinations(used, size)):
            unit = scale[chosen]
            square = gram[np.ix_(chosen, chosen)] / np.outer(unit, unit)
            solved, *_ = np.linalg.lstsq(square, moments[chosen] / unit, rcond=None)
            trial = np.zeros(len(scale))
            trial[chosen] = solved / unit
            error = float(values @ values - 2 * trial @ moments + trial @ gram @ trial)
            if (trial >= 0).all() and error < least - floor:
                best, least = trial, error
    return [float(value) for value in best]
