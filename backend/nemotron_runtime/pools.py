"""Lend out numbered units, state slots and KV pages, and know how many are left."""

from collections.abc import Iterable


class Pool:
    """Units `first` … `first + total - 1`; each is lent to one holder at a time, lowest number first."""

    def __init__(self, total: int, *, first: int = 0) -> None:
        self.total = total
        self._free = list(range(first + total - 1, first - 1, -1))
        self._lent: set[int] = set()

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def used(self) -> int:
        return len(self._lent)

    def take(self, count: int) -> tuple[int, ...]:
        """Lend `count` units; the caller asked `free` first."""
        if count > self.free:
            raise ValueError(f"asked for {count} units, but only {self.free} of {self.total} are free")
        taken = tuple(self._free.pop() for _ in range(count))
        self._lent.update(taken)
        return taken

    def give_back(self, units: Iterable[int]) -> None:
        """Return lent units; giving back what is not lent is a bug of the caller's."""
        for unit in units:
            self._lent.remove(unit)
            self._free.append(unit)
