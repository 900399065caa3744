"""Choose who computes a decode step: the library of CPU kernels, Triton's kernels, or torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Implementation = Literal["native", "triton", "torch"]
Kernels = Literal["auto", "native", "triton", "torch"]

OWN: Mapping[str, Implementation] = {"cpu": "native", "cuda": "triton"}
"""Whose kernels "auto" means, by device; torch's on others."""


class NoKernels(RuntimeError):
    """What was asked for cannot be had here; the message says why, and what to ask for instead."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the choice is made from."""

    device: str
    """As torch names its type."""
    exact: bool
    """Whether a token's bits must not depend on how its sequence was cut."""
    missing: Mapping[Implementation, str] = field(default_factory=dict)
    """What stands in the way of whom; nothing for who can be had."""


@dataclass(frozen=True, slots=True)
class Choice:
    implementation: Implementation
    reason: str


Rule = tuple[Callable[[Situation], bool], str]

EXACT: Rule = (lambda at: at.exact, "exact mode promises the same bits in prefill, which torch computes")
TORCH: Mapping[Implementation, tuple[Rule, ...]] = {
    "native": ((lambda at: at.device != "cpu", "the library computes on CPUs"), EXACT),
    "triton": (EXACT,),
    "torch": (),
}
"""What torch is for, even where others are there; the first that holds is told."""

REASONS: Mapping[Implementation, str] = {
    "native": "the library computes steps of a few tokens, torch longer ones",
    "triton": "Triton's kernels compute steps of a few tokens, torch longer ones",
    "torch": "torch was asked for, or nothing else is there",
}


def choose(wanted: Kernels, at: Situation) -> Choice:
    """Raises NoKernels where a device's own kernels are wanted, as they are unless torch is, and cannot be had."""
    if wanted not in get_args(Kernels):
        raise NoKernels(f"kernels {wanted!r}: unknown; ask for one of {', '.join(get_args(Kernels))}")
    own = OWN.get(at.device, "torch") if wanted == "auto" else wanted
    reason = next((reason for holds, reason in TORCH[own] if holds(at)), None)
    if reason and wanted == own:
        raise NoKernels(f'kernels="{own}" cannot be had: {reason}; ask for "auto" or "torch"')
    if reason:
        return Choice("torch", reason)
    if own in at.missing:
        raise NoKernels(f'{at.missing[own]}; kernels="torch" runs without it, slower')
    return Choice(own, REASONS[own])
