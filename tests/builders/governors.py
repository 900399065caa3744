"""Governors that do not look at the clock."""

import random
from dataclasses import dataclass

from nemotron_runtime.governor import Phase


@dataclass(slots=True)
class AlwaysDrafting:
    phase: Phase = Phase.DRAFTING

    def note(self, streams: int, drafted: int, seconds: float, preparing: float) -> None: ...


@dataclass(slots=True)
class Fickle:
    """Another phase every few steps."""

    chance: random.Random
    phase: Phase = Phase.MEASURING

    def note(self, streams: int, drafted: int, seconds: float, preparing: float) -> None:
        if self.chance.random() < 0.2:
            self.phase = self.chance.choice(list(Phase))
