"""Show what takes time: one line per step, with its seconds."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

HEARTBEAT_SECONDS = 20.0


@contextmanager
def step(text: str) -> Iterator[None]:
    """Print `text … 20 … 40 … 47.1 s`: a heartbeat while the block runs, its duration at the end."""
    started = time.monotonic()
    finished = threading.Event()

    def beat() -> None:
        while not finished.wait(HEARTBEAT_SECONDS):
            _write(f" {time.monotonic() - started:.0f} …")

    heart = threading.Thread(target=beat, daemon=True)
    _write(f"  {text} …")
    heart.start()
    failed = True
    try:
        yield
        failed = False
    finally:
        finished.set()
        heart.join()
        _write(f" {'failed after ' if failed else ''}{time.monotonic() - started:.1f} s\n")


def wait_until(done: Callable[[], bool], *, seconds: float, else_raise: Callable[[], Exception]) -> None:
    """Ask `done` five times a second; raise what `else_raise` makes when `seconds` have passed."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise else_raise()
        time.sleep(0.2)


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
