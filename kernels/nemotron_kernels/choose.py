"""Choose who computes a decode step: the library of CPU kernels, or torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

Kernels = Literal["auto", "native", "torch"]


class NoKernels(RuntimeError):
    """What was asked for cannot be had here; the message says why, and what to ask for instead."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the choice is made from."""

    device: str
    """As torch names its type."""
    exact: bool
    """Whether a token's bits must not depend on how its sequence was cut."""
    missing: str | None
    """What stands in the way of the library, if anything does."""


@dataclass(frozen=True, slots=True)
class Choice:
    implementation: Literal["native", "torch"]
    reason: str


NOT_NATIVE: tuple[tuple[Callable[[Situation], bool], str], ...] = (
    (lambda at: at.device != "cpu", "the library computes on CPUs"),
    (lambda at: at.exact, "exact mode promises the same bits in prefill, which torch computes"),
)
"""What torch is for, even where the library is there; the first that holds is told."""


def choose(wanted: Kernels, at: Situation) -> Choice:
    """Raises NoKernels where the library is wanted, as on CPUs it is unless torch was asked for, and cannot be had."""
    if wanted not in get_args(Kernels):
        raise NoKernels(f"kernels {wanted!r}: unknown; ask for one of {', '.join(get_args(Kernels))}")
    if wanted == "torch":
        return Choice("torch", "torch was asked for")
    reason = next((reason for holds, reason in NOT_NATIVE if holds(at)), None)
    if reason and wanted == "native":
        raise NoKernels(f'kernels="native" cannot be had: {reason}; ask for "auto" or "torch"')
    if reason:
        return Choice("torch", reason)
    if at.missing:
        raise NoKernels(f'{at.missing}; kernels="torch" runs without it, slower')
    return Choice("native", "the library computes steps of a few tokens, torch longer ones")
