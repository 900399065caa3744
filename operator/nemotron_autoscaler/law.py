"""Decide how many replicas the load asks for: a pure law over state slots and waiting requests.

A hybrid model's replica is full when its state slots are: each running sequence holds one, whatever its length, and a
waiting request is one that found none. KV utilisation says little here, for KV is a small part of the memory.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Reason = Literal["Steady", "ScaledUp", "ScaledDown", "AtMax", "MetricsMissing"]


@dataclass(frozen=True, slots=True)
class Policy:
    min: int
    max: int
    stabilization_seconds: float
    target_occupancy: float
    """Share of the slots to fill, 0–1; the rest absorbs arrivals while a new replica starts."""
    silence_seconds: float = 10.0
    """Samples further apart than this leave a time of which nothing is known."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What the replicas said at one time, summed over those that answered."""

    replicas: int
    """Routable replicas."""
    answered: int
    waiting: int
    slots_used: int
    slots_total: int

    @property
    def is_complete(self) -> bool:
        return 0 < self.replicas <= self.answered and self.slots_total > 0


@dataclass(frozen=True, slots=True)
class Decision:
    replicas: int
    reason: Reason


def demand(sample: Sample, policy: Policy) -> int:
    """Replicas that would hold this load at the target occupancy; 0 when no replica answered."""
    if not sample.answered or not sample.slots_total:
        return 0
    slots_per_replica = sample.slots_total / sample.answered
    return math.ceil((sample.slots_used + sample.waiting) / (slots_per_replica * policy.target_occupancy))


def decide(current: int, sample: Sample | None, history: Sequence[tuple[float, int]], policy: Policy) -> Decision:
    """The number of replicas to have now.

    More at once, fewer only when every demand of a whole stabilization time allows it. Missing metrics hold: a replica
    that cannot be asked may be busy, so they can neither prove idleness nor hide the demand of those that answered.

    Args:
        current: replicas there are told to be.
        history: (time in seconds, demand) of complete samples, oldest first; the last one is `sample`'s.
    """
    held = min(max(current, policy.min), policy.max)
    if sample is None or not sample.answered:
        return Decision(held, "MetricsMissing")
    asked = demand(sample, policy)
    if asked > held:
        return Decision(min(asked, policy.max), "AtMax" if held == policy.max else "ScaledUp")
    if not sample.is_complete:
        return Decision(held, "MetricsMissing")
    if asked < held and _is_whole(history, policy):
        allowed = max(policy.min, *(wanted for _, wanted in history))
        if allowed < held:
            return Decision(allowed, "ScaledDown")
    return Decision(held, "Steady")


def remember(
    history: Sequence[tuple[float, int]], now: float, wanted: int, policy: Policy
) -> tuple[tuple[float, int], ...]:
    """The history with one more demand, cut to what one stabilization time needs: one entry older than it is kept."""
    grown = (*history, (now, wanted))
    inside = [i for i, (at, _) in enumerate(grown) if now - at < policy.stabilization_seconds]
    return grown[max(0, inside[0] - 1) :] if inside else grown[-1:]


def _is_whole(history: Sequence[tuple[float, int]], policy: Policy) -> bool:
    """Whether the demands cover a stabilization time without a gap."""
    times = [at for at, _ in history]
    gaps = (later - earlier for earlier, later in pairwise(times))
    covered = bool(times) and times[-1] - times[0] >= policy.stabilization_seconds
    return covered and all(gap <= policy.silence_seconds for gap in gaps)
