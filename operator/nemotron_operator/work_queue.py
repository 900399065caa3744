"""Queue keys, not events: a key marked twice is worked on once, never twice at a time, and a failing one waits."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class WorkQueue(Generic[Key]):
    """A keyed queue with delays and per-key exponential back-off.

    Args:
        base_seconds: delay after a key's first failure; it doubles with each further one.
        longest_seconds: the delay's limit.
    """

    def __init__(self, base_seconds: float = 0.5, longest_seconds: float = 300.0) -> None:
        self._base, self._longest = base_seconds, longest_seconds
        self._ready: asyncio.Queue[Key] = asyncio.Queue()
        self._queued: set[Key] = set()
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._queued)

    def add(self, key: Key) -> None:
        """Work on the key soon; if it is being worked on, once more afterwards."""
        if key in self._running:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: Key, seconds: float) -> None:
        """Work on the key in `seconds` at the latest; of several delays the shortest counts."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer and timer.when() <= loop.time() + seconds:
            return
        if timer:
            timer.cancel()
        self._timers[key] = loop.call_later(seconds, self._fire, key)

    def _fire(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def run(self, work: Callable[[Key], Awaitable[None]], failed: Callable[[Key, Exception], None]) -> None:
        """Be one worker, for ever. `failed` hears of every exception of `work`; the key is retried after its delay."""
        while True:
            key = await self._ready.get()
            self._queued.discard(key)
            self._running.add(key)
            try:
                await work(key)
            except Exception as error:  # noqa: BLE001 - the worker must outlive any key; the shell logs it
                failed(key, error)
                self.add_after(key, self._next_delay(key))
            else:
                self._failures.pop(key, None)
            finally:
                self._running.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a key that is gone."""
        self._failures.pop(key, None)
        if timer := self._timers.pop(key, None):
            timer.cancel()

    def _next_delay(self, key: Key) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # Days of failures make more doublings than a float can hold.
        delay = min(self._base * 2.0 ** min(failures, 30), self._longest)
        return delay * random.uniform(0.8, 1.2)
