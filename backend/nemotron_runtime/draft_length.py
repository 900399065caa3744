"""Decide how many tokens to draft for each sequence, so that most tokens per second come out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nemotron_runtime.step_cost import Floats, StepCost, StepTimes

LONGEST_DRAFT = 16
"""The deepest draft that the accounts below can pay for when it fails."""

SLACK = 0.03
"""The share of the time without drafts that drafts may cost at most, however they fail."""

PROBE_SHARE = 0.01
"""The part of it that looks whether drafts deeper than the best known ones would be accepted."""

RESERVE_STEPS = 64.0
"""What drafts may have lost at any time, as the time of steps without: a run of bad luck must not end good drafts."""

PROBE_RESERVE_STEPS = 16.0
"""What probes may cost in a row: at least one of the longest draft, even if every row costs what a step does."""

MEMORY = 0.99
"""What is left of an observation after the next one at the same place: about a hundred count."""

PRIOR_WEIGHT = 1.0
"""Observations that a prior rate is worth. What was never tried is thought to work: so it is tried, and found out."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How often drafts were accepted, by place: `kept` of `tried`, where all before it were accepted."""

    tried: tuple[float, ...] = (0.0,) * LONGEST_DRAFT
    kept: tuple[float, ...] = (0.0,) * LONGEST_DRAFT

    def observe(self, drafted: int, accepted: int) -> "Acceptance":
        """After a draft of `drafted` tokens, of which the first `accepted` were right."""
        judged = range(min(accepted + 1, drafted))
        tried, kept = list(self.tried), list(self.kept)
        for place in judged:
            tried[place] = MEMORY * tried[place] + 1
            kept[place] = MEMORY * kept[place] + (place < accepted)
        return Acceptance(tuple(tried), tuple(kept))

    @property
    def rates(self) -> tuple[float, ...]:
        """The chance at each place that a token is right when all before it are."""
        return tuple(
            (kept + PRIOR_WEIGHT) / (tried + PRIOR_WEIGHT) for tried, kept in zip(self.tried, self.kept, strict=True)
        )


def hopes(known: Sequence[Acceptance], common: Acceptance) -> Floats:
    """(b, LONGEST_DRAFT): each sequence's rates, with the common ones for a prior, and a standard deviation up.

    Drafting corrects a hope that is too high; nothing corrects one that is too low.
    """
    tried, kept = (np.array(counts) for counts in zip(*((each.tried, each.kept) for each in known), strict=True))
    weight = tried + PRIOR_WEIGHT
    rates = np.clip((kept + PRIOR_WEIGHT * np.array(common.rates)) / weight, 0.0, 1.0)
    hoped: Floats = np.minimum(rates + np.sqrt(rates * (1 - rates) / weight), 1.0)
    return hoped


def best_lengths(chances: Floats, cost: StepCost, affordable: float, *, is_module: bool) -> list[int]:
    """Tokens to draft for each of b sequences: the most tokens per second among steps of at most `affordable` seconds.

    chances: (b, most), falling along each row: that a draft's first 1 … most tokens are all accepted. A module takes
    a pass of its own per depth, a look-up takes none. The rows worth most go first, whichever sequence they are of.
    """
    count, most = chances.shape
    lengths, best = [0] * count, count / cost.seconds(count)
    for depth in _depths(count, most, is_module):
        worth = chances[:, :depth].ravel()
        order = np.argsort(-worth, kind="stable")
        passes = np.maximum.accumulate(order % depth + 1) if is_module else 0
        seconds = cost.each(np.arange(count + 1, count + 1 + len(order)), passes)
        rates = np.where(seconds <= affordable, (count + np.cumsum(worth[order])) / seconds, 0.0)
        if (rate := float(rates.max())) > best:
            taken = order[: int(rates.argmax()) + 1]
            lengths, best = np.bincount(taken // depth, minlength=count).tolist(), rate
    return lengths


def _probe_length(turn: int, length: int, reach: int) -> int:
    """A draft longer than `length`, of at most `reach`: in turn by 1, 2, 4, … tokens.

    Short probes are cheap, and long ones see what lies behind a place that hardly pays.
    """
    longer = _doubling(reach - length)
    return length + longer[turn % len(longer)] if longer else length


def _depths(count: int, most: int, is_module: bool) -> list[int]:
    """Limits to a draft's depth worth comparing: passes cost all sequences together, so one must not run ahead."""
    return _doubling(most) if is_module and count > 1 else [most]


def _doubling(most: int) -> list[int]:
    """1, 2, 4, … and `most`; nothing below 1."""
    powers = [1 << power for power in range(max(0, most).bit_length())]
    return [*powers[:-1], *sorted({*powers[-1:], most})] if most > 0 else []


@dataclass(slots=True)
class DraftLengths:
    """The controller of one engine: `decide` before a step's drafts, `learn` after the step. Not safe for threads.

    Two accounts of seconds keep it honest. `credit` is what drafts may still lose against steps without any: it grows
    by SLACK of their time, and by what drafts gain, up to RESERVE_STEPS. A draft that would overdraw it by failing
    altogether is not made: so over any stretch of steps, whatever is accepted, the time is at most 1 + SLACK times
    that without drafts, plus the reserve. `probing` pays for drafts longer than seems best, without which nobody would
    notice that they have become worth while; what such a draft gains pays for the next. Both accounts go by predicted
    seconds: a pause of the machine is no draft's fault.
    """

    times: StepTimes
    most: int
    """The longest draft; 0 never drafts."""
    is_module: bool
    """Whether every depth takes a pass of a draft module; looked-up drafts take none."""
    common: Acceptance = Acceptance()
    credit: float = 0.0
    probing: float = 0.0
    _turn: int = 0
    _deepest: int = 0
    """The longest draft that was measured."""
    _probed: tuple[int, int] | None = None
    """The sequence whose draft is a probe, and the length that seemed best for it."""
    _began: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.most <= LONGEST_DRAFT:
            raise ValueError(f"drafts of {self.most} tokens: choose 0 … {LONGEST_DRAFT}")

    def decide(self, known: Sequence[Acceptance], limits: Sequence[int]) -> tuple[int, ...]:
        """Tokens to draft for each sequence, at most its limit, given what became of its own drafts so far."""
        cost, count, self._probed = self.times.cost, len(known), None
        if cost is None or not any(limits) or not self.most:
            return (0,) * count
        limits = [min(limit, self.most) for limit in limits]
        off = cost.seconds(count)
        self._open(off)
        affordable = self.credit + (1 + SLACK) * off
        lengths = best_lengths(self._chances(known, limits), cost, affordable, is_module=self.is_module)
        return tuple(self._probe(lengths, limits, cost, affordable))

    def learn(self, lengths: Sequence[int], accepted: Sequence[int], seconds: float | None) -> None:
        """Note a step: what was drafted, how many of each draft were right, and its seconds, drafting included.

        The sequences are those of `decide`, in that order. `seconds` is None for a step that computed prompts beside
        its decodes, which say nothing of the decodes' time. A sequence's own `Acceptance` is its owner's to keep; one
        that ended since then drafted nothing.
        """
        if not lengths:
            return
        rows, passes = len(lengths) + sum(lengths), self._passes(lengths)
        if seconds is not None:
            self._deepest = max(self._deepest, *lengths)
            self.times.add(rows, passes, seconds)
        for drafted, right in zip(lengths, accepted, strict=True):
            if drafted:
                self.common = self.common.observe(drafted, right)
        if cost := self.times.cost:
            self._book(cost.seconds(len(lengths)), cost.seconds(rows, passes), accepted)

    def _book(self, off: float, spent: float, accepted: Sequence[int]) -> None:
        """Settle a step that took `spent` seconds by prediction, and would have taken `off` without drafts."""
        self._open(off)
        count, gained = len(accepted), sum(accepted)
        earned = (1 + SLACK) * off * (1 + gained / count)
        self.credit = min(self.credit + earned - spent, RESERVE_STEPS * off)
        probing = self.probing + PROBE_SHARE * off
        if self._probed:
            place, length = self._probed
            probing += spent / (count + gained) * max(0, accepted[place] - length)
        self.probing, self._probed = min(probing, PROBE_RESERVE_STEPS * off), None

    def _open(self, off: float) -> None:
        """Fill the accounts once it is known how long a step takes."""
        if not self._began:
            self._began, self.credit, self.probing = True, RESERVE_STEPS * off, PROBE_RESERVE_STEPS * off

    def _chances(self, known: Sequence[Acceptance], limits: Sequence[int]) -> Floats:
        """(b, most): that all of a draft's tokens so far are right; 0 beyond a sequence's limit."""
        within = np.arange(self.most) < np.array(limits)[:, None]
        return np.where(within, np.cumprod(hopes(known, self.common)[:, : self.most], axis=1), 0.0)

    def _probe(self, lengths: list[int], limits: Sequence[int], cost: StepCost, affordable: float) -> list[int]:
        """The same lengths, or with the longest draft for the sequence whose turn it is, if that can be paid."""
        place = self._turn % len(lengths)
        # What deeper drafts cost is unknown before one was measured: go there in steps.
        reach = min(limits[place], 2 * self._deepest + 1)
        length = _probe_length(self._turn // len(lengths), lengths[place], reach)
        longer = [*lengths[:place], length, *lengths[place + 1 :]]
        seconds = self._seconds(cost, longer)
        extra = seconds - self._seconds(cost, lengths)
        if extra > self.probing or seconds > affordable:
            return lengths
        self._turn += 1
        self._probed = place, lengths[place]
        self.probing -= extra
        return longer

    def _seconds(self, cost: StepCost, lengths: Sequence[int]) -> float:
        return cost.seconds(len(lengths) + sum(lengths), self._passes(lengths))

    def _passes(self, lengths: Sequence[int]) -> int:
        return max(lengths) if self.is_module else 0
