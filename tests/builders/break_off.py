"""Fetch weights again and again, each time ended one line of our code later: by SIGKILL, a failing disk, or SIGTERM.

    python -P break_off.py kill|fail|stop CHECKPOINT STORE

One line of JSON per attempt says what it left, what a reader then finds, and what the next build makes of it. Each
attempt is a fork of this process, which has no other thread.
"""

import errno
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import nemotron_build
from nemotron_api.build import WeightsRequest
from nemotron_api.errors import ChecksumMismatch, SourceNotFound
from nemotron_build import job, sealed
from nemotron_build.cli import main
from nemotron_build.progress import silent
from nemotron_build.source import Access
from nemotron_build.store import Store

TRACED = tuple(
    str(Path(nemotron_build.__file__).parent / name)
    for name in ("job.py", "weights.py", "folder.py", "store.py", "temporary.py", "durable.py", "sealed.py")
)


class EndAtLine:
    """A trace function that ends the attempt at the n-th line of our code."""

    def __init__(self, line: int, how: str) -> None:
        self.left, self.end = line, ENDS[how]

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(TRACED):
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                self.end()
        return self


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail() -> None:
    raise OSError(errno.EIO, "the disk failed")


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


ENDS = {"kill": _kill, "fail": _fail, "stop": _stop}


def attempt(request: WeightsRequest, store: Store, line: int, how: str) -> int:
    """How the command ended: its exit code, negative for a signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.settrace(EndAtLine(line, how))
    code = 99  # an exception that left the command
    try:
        with redirect_stdout(None), redirect_stderr(None):
            code = main(["run", "--request", request.to_json(), "--store-root", str(store.root), "--allow-file-uris"])
    finally:
        os._exit(code)


def what_a_reader_finds(request: WeightsRequest, store: Store) -> str:
    try:
        sealed.verify(store.open("Weights", request.fingerprint))
    except SourceNotFound:
        return "nothing"
    except ChecksumMismatch:
        return "damaged"
    return "sealed"


def content(store: Store) -> list[str]:
    folder = store.root / "weights"
    return sorted(os.listdir(folder)) if folder.exists() else []


def attempts(how: str, checkpoint: str, root: Path) -> Iterator[dict[str, object]]:
    request = WeightsRequest(uri=f"file://{checkpoint}", store="store")
    for line in count(1):
        store = Store(root / str(line))
        code = attempt(request, store, line, how)
        left, found = content(store), what_a_reader_finds(request, store)
        healed = job.run(request, store, Access(files=True), silent).bytes
        yield {"line": line, "code": code, "left": left, "found": found, "healed": healed, "in_the_end": content(store)}
        if code == 0:
            return


if __name__ == "__main__":
    # What a killed process wrote stays in the page cache: flushing shows nothing here and takes most of the time.
    os.fsync = lambda fd: None
    for each in attempts(sys.argv[1], sys.argv[2], Path(sys.argv[3])):
        print(json.dumps(each))
