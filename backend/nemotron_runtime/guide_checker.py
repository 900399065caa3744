"""Ask another process what becomes of a guide, and survive its end."""

import json
import select
import subprocess
import sys
from pathlib import Path
from threading import Lock
from typing import Final

from nemotron_api.errors import InvalidRequest

SCRIPT: Final = Path(__file__).with_name("guide_check.py")
START_SECONDS: Final = 30.0
CHECK_SECONDS: Final = 2.0
"""Guides that people write take milliseconds."""


class Checker:
    """One process, started when it is first needed, and again after a guide was its end. Safe for threads."""

    def __init__(self, seconds: float = CHECK_SECONDS) -> None:
        self._seconds = seconds
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None

    def grammar(self, kind: str, text: str) -> str:
        """The library's own form of a guide. Raises InvalidRequest with what is wrong with it."""
        with self._lock:
            if self._process is None:
                self._process = self._started()
            found = self._ask(self._process, kind, text, self._seconds)
        if found is None:
            raise InvalidRequest(
                f"the guide is nested too deeply, or takes longer than {self._seconds:g} s to compile: make it simpler"
            )
        if "error" in found:
            raise InvalidRequest(f"the guide is no {kind} that can be followed: {found['error']}")
        return found["grammar"]

    def close(self) -> None:
        with self._lock:
            self._end()

    def _started(self) -> subprocess.Popen[str]:
        # -P: beside the script lie modules that have names of the standard library's.
        command = [sys.executable, "-P", str(SCRIPT)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # The first answer waits for the interpreter and the library, whose time is nobody's fault.
        if self._ask(process, "json", "", START_SECONDS) is None:
            raise InvalidRequest("guides cannot be checked here, as their checker does not start: see the server's log")
        return process

    def _ask(self, process: subprocess.Popen[str], kind: str, text: str, seconds: float) -> dict[str, str] | None:
        """What the process answers; None where it does not."""
        self._process = process
        if process.stdin is None or process.stdout is None:
            raise ValueError("the checker was started without pipes")
        try:
            process.stdin.write(json.dumps({"kind": kind, "text": text}) + "\n")
            process.stdin.flush()
            answers, _, _ = select.select([process.stdout], [], [], seconds)
            line = process.stdout.readline() if answers else ""
        except BrokenPipeError:
            line = ""
        if not line:
            self._end()
            return None
        found: dict[str, str] = json.loads(line)
        return found

    def _end(self) -> None:
        if (process := self._process) is not None:
            self._process = None
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        # What it was still to be told went with it.
                        continue
