"""Tell how many bytes of a long copy are done, often enough to see life and seldom enough to read."""

import threading
import time
from collections.abc import Callable

Log = Callable[[str], None]
OnBytes = Callable[[int], None]

INTERVAL_SECONDS = 10.0


def unheard(count: int) -> None:
    """Nobody listens."""


def silent(line: str) -> None:
    """Nobody reads."""


def report(
    log: Log, done: str, total_bytes: int, *, every: float = INTERVAL_SECONDS, now: Callable[[], float] = time.monotonic
) -> OnBytes:
    """A listener, for any thread, that logs `<done> 1.2 GB of 62.9 GB (1 %), 840 s left` once per `every` seconds."""
    lock = threading.Lock()
    total, began = 0, now()
    last = began

    def on_bytes(count: int) -> None:
        nonlocal total, last
        with lock:
            total += count
            if (moment := now()) - last < every:
                return
            last = moment
            left = (total_bytes - total) * (moment - began) / max(total, 1)
            share = total * 100 // max(total_bytes, 1)
            log(f"{done} {size(total)} of {size(total_bytes)} ({share} %), {max(0, round(left))} s left")

    return on_bytes


def size(count: int) -> str:
    """`62.9 GB`, in powers of 1,000, as disks are sold."""
    for power, unit in ((12, "TB"), (9, "GB"), (6, "MB"), (3, "kB")):
        if count >= 10**power:
            return f"{count / 10**power:.1f} {unit}"
    return f"{count} B"
