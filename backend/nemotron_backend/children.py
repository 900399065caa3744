"""Do what the first process of a container owes the others: bury them."""

import ctypes
import os
from pathlib import Path
from typing import Final

PR_SET_CHILD_SUBREAPER: Final = 36


def adopt() -> None:
    """Become the parent of orphans also where this is not process 1."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def bury(keep: int | None) -> None:
    """Collect every ended child but `keep`, whose exit code its owner reads itself."""
    while (ended := _ended()) is not None and ended != keep:
        os.waitpid(ended, 0)


def is_alive(pid: int) -> bool:
    """False also for a zombie: a killed stub stays one, since the server never looks."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def _ended() -> int | None:
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid
