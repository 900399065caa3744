"""Decide by the clock alone whether streams draft at all, so that drafts cost next to nothing where they do not pay."""

from dataclasses import dataclass, field
from enum import Enum, auto
from statistics import median

from nemotron_runtime.step_cost import StepTimes

SHARE = 0.01
"""The part of the time that looking whether drafts pay may cost."""

RESERVE_STEPS = 32.0
"""What drafts may lose before they rest, as the time of steps without: enough for a draft length to be found."""

PLAIN_STEPS = 9
"""Steps without drafts, of as many streams, that are measured before the first draft, and now and then among steps with
drafts: their median counts, since a first step is often many times as long as the others."""

DRAFTING_STEPS = 512
"""Steps with drafts between them: what a step takes changes with the lengths of the texts."""

LONGEST = 4.0
"""A step that took more than this many times what was expected was held up by something else: it counts as this."""


class Phase(Enum):
    """What is done about drafts."""

    MEASURING = auto()
    """None are made, so that it is seen what a step takes without; those who make them keep up."""
    DRAFTING = auto()
    RESTING = auto()
    """Nothing at all: neither drafts nor anything that would prepare for them."""


@dataclass(slots=True)
class Governor:
    """The judge of one engine's drafts: asked before each step, told after each that only decoded.

    What drafts may still lose, in seconds, is the purse. All that they cost counts, by the clock: the rows computed in
    vain, the module, the look-up, deciding how much to draft. Every step earns SHARE of its time; one with drafts
    spends what it took longer than its tokens would have taken without, and earns what it was faster. An empty purse
    ends drafts until it is full again: so over any stretch of steps, the time is at most 1 + SHARE times that without
    drafts, plus the reserve. Not safe for threads.
    """

    plain: StepTimes
    """Of steps without drafts."""
    phase: Phase = Phase.MEASURING
    purse: float = 0.0
    _measured: dict[int, list[float]] = field(default_factory=dict)
    """Seconds of the latest steps without drafts, by the number of their streams."""
    _drafting: int = 0
    """Steps with drafts in a row."""
    _full: float = 0.0
    """Seconds that the purse holds at most."""

    def note(self, streams: int, drafted: int, seconds: float, preparing: float) -> None:
        """A step gave each stream a token, and `drafted` more in all, in so many seconds.

        `preparing` is what drafts for it took before, and counts only where there could be any.
        """
        match self.phase:
            case Phase.MEASURING:
                if self._measure(streams, seconds):
                    self._earn(streams, 0.0)
                    self.phase, self._drafting = Phase.DRAFTING, 0
            case Phase.DRAFTING:
                without = self._expected(streams)
                worth = (1 + SHARE) * without * (streams + drafted) / streams
                self._earn(streams, worth - min(seconds + preparing, LONGEST * without))
                self._drafting += 1
                if self.purse < 0:
                    self.phase = Phase.RESTING
                elif self._drafting >= DRAFTING_STEPS:
                    self.phase = Phase.MEASURING
            case Phase.RESTING:
                self._measure(streams, seconds)
                self._earn(streams, SHARE * self._expected(streams))
                if self.purse >= self._full:
                    self.phase, self._drafting = Phase.DRAFTING, 0

    def _measure(self, streams: int, seconds: float) -> bool:
        """Note a step without drafts; whether enough of them were seen by now to tell what one takes."""
        found = self._measured.setdefault(streams, [])
        found.append(seconds)
        if len(found) < PLAIN_STEPS:
            return False
        self.plain.add(streams, 0, median(found))
        found.clear()
        return True

    def _earn(self, streams: int, seconds: float) -> None:
        was, self._full = self._full, RESERVE_STEPS * self._expected(streams)
        # A purse is full at first, and stays as full as it was when steps become longer or shorter.
        self.purse = self.purse * self._full / was if was else self._full
        self.purse = min(self.purse + seconds, self._full)

    def _expected(self, streams: int) -> float:
        """The seconds of a step without drafts."""
        assert self.plain.cost, "steps without drafts come first"
        return self.plain.cost.seconds(streams)
