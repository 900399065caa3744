"""Lend out numbered units, state slots and KV pages, and know how many are left."""

from collections import Counter
from collections.abc import Iterable
from heapq import heappop, heappush


class Pool:
    """Units `first` … `first + total - 1`, lowest free number first; a unit is free when nobody holds it any more.

    Pages of one sequence lie side by side for as long as nobody else takes any meanwhile: long texts are read faster.
    """

    def __init__(self, total: int, *, first: int = 0) -> None:
        self.total = total
        self._free = list(range(first, first + total))
        self._holders: Counter[int] = Counter()

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def used(self) -> int:
        return self.total - len(self._free)

    def holders(self, unit: int) -> int:
        return self._holders[unit]

    def take(self, count: int) -> list[int]:
        """Lend `count` free units; the caller asked `free` first."""
        if count > self.free:
            raise ValueError(f"asked for {count} units, but only {self.free} of {self.total} are free")
        taken = [heappop(self._free) for _ in range(count)]
        self._holders.update(taken)
        return taken

    def share(self, units: Iterable[int]) -> None:
        """Lend units that are held already to one more holder."""
        for unit in units:
            if not self._holders[unit]:
                raise ValueError(f"unit {unit} is free: nobody can share it")
            self._holders[unit] += 1

    def give_back(self, units: Iterable[int]) -> None:
        """Return units for one holder; giving back what is not lent is a bug of the caller's."""
        for unit in units:
            if not self._holders[unit]:
                raise ValueError(f"unit {unit} is not lent")
            self._holders[unit] -= 1
            if not self._holders[unit]:
                del self._holders[unit]
                heappush(self._free, unit)
