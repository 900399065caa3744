"""Simulate a machine whose steps take what a known cost says, and sequences that accept what a test wants."""

import random
from collections.abc import Callable, Sequence

import numpy as np
from hypothesis import strategies as st

from nemotron_runtime.draft_length import SLACK, Acceptance, DraftLengths
from nemotron_runtime.step_cost import Floats, StepCost, StepTimes

COSTS = st.builds(
    StepCost,
    row=st.sampled_from([0.0, 1e-5, 1e-3, 5e-3]),
    expert=st.sampled_from([0.0, 1e-5, 2e-4]),
    fixed=st.sampled_from([1e-4, 3e-3, 1e-2]),
    draft=st.sampled_from([0.0, 1e-4, 2e-3]),
    experts=st.sampled_from([0, 16, 128, 512]),
    chosen=st.sampled_from([1, 4, 6]),
)
Judge = Callable[[int, int, int], int]
"""Step, sequence, tokens drafted → how many of them are right."""


class Simulation:
    """A machine of known cost that serves the same sequences for ever."""

    def __init__(self, cost: StepCost, judge: Judge, *, most: int, is_module: bool = True, sequences: int = 1) -> None:
        self.cost, self.judge, self.most, self.is_module = cost, judge, most, is_module
        self.known = [Acceptance()] * sequences
        self.lengths = DraftLengths(StepTimes(cost.experts, cost.chosen), most, is_module)
        self.chosen: list[tuple[int, ...]] = []
        self.tokens: list[int] = []
        self.seconds: list[float] = []

    def run(self, steps: int) -> "Simulation":
        for step in range(steps):
            lengths = self.lengths.decide(self.known, [self.most] * len(self.known))
            right = [min(length, self.judge(step, place, length)) for place, length in enumerate(lengths)]
            seconds = self.step_seconds(lengths)
            self.lengths.learn(lengths, right, seconds)
            self.known = [each.observe(*pair) for each, *pair in zip(self.known, lengths, right, strict=True)]
            self.chosen.append(lengths)
            self.tokens.append(len(lengths) + sum(right))
            self.seconds.append(seconds)
        return self

    def step_seconds(self, lengths: Sequence[int]) -> float:
        return self.cost.seconds(len(lengths) + sum(lengths), max(lengths) if self.is_module else 0)

    @property
    def off(self) -> float:
        """Seconds of a step without drafts."""
        return self.cost.seconds(len(self.known))

    def worst_loss(self) -> float:
        """The most that any stretch of steps took beyond 1 + SLACK of the time without drafts, in steps without."""
        per_token = (1 + SLACK) / len(self.known)
        loss = worst = 0.0
        for seconds, tokens in zip(self.seconds, self.tokens, strict=True):
            loss = max(0.0, loss + seconds / self.off - per_token * tokens)
            worst = max(worst, loss)
        return worst


def by_chance(rates: Sequence[float], seed: int = 0) -> Judge:
    """Each token of a draft is right with its place's chance, if all before it are."""
    draw = random.Random(seed)

    def judge(step: int, place: int, length: int) -> int:
        return next((depth for depth in range(length) if draw.random() >= rates[depth]), length)

    return judge


def gains(rates: Sequence[float]) -> Floats:
    """Tokens that a draft of 0, 1, 2 … tokens adds, on average."""
    return np.concatenate([[0.0], np.cumsum(np.cumprod(rates))])
