"""Name one value of a metric."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["GAUGE", "COUNTER"]
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    """One value now: a gauge's level, or a counter's total since the start."""

    kind: Kind
    name: str
    help: str
    value: float
    labels: Labels = ()
