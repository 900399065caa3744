"""Name what has to happen to the memory, in order, for the books to be true."""

from collections.abc import Sequence
from dataclasses import dataclass

from nemotron_runtime.request import Request


@dataclass(frozen=True, slots=True)
class ClearSlot:
    """Make a slot an empty sequence."""

    slot: int


@dataclass(frozen=True, slots=True)
class ClearPages:
    pages: Sequence[int]


@dataclass(frozen=True, slots=True)
class CopySlot:
    source: int
    target: int


@dataclass(frozen=True, slots=True)
class CopyPage:
    """Copy the first `tokens` of a page; nothing of whoever wrote the rest of it is taken along."""

    source: int
    target: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Park:
    """Copy a session from the slot and pages it loses to `request.parked`; without room for it, it starts over."""

    request: Request
    slot: int
    pages: Sequence[int]


@dataclass(frozen=True, slots=True)
class Resume:
    """Copy a parked session into the slot and the first of the pages it has now."""

    request: Request


@dataclass(frozen=True, slots=True)
class ClearTail:
    """Forget tokens `start` to `stop` of a sequence, drafts that broke: what is no number is none times zero, too."""

    slot: int
    pages: Sequence[int]
    start: int
    stop: int


Move = ClearSlot | ClearPages | ClearTail | CopySlot | CopyPage | Park | Resume
