"""Start long-lived processes, find them again from another command, and stop them."""

import contextlib
import os
import shutil
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.progress import wait_until

LOG_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class Service:
    """One long-lived process and the name it is known by."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of one cluster: `<name>.pid` and `<name>.log` in a folder."""

    directory: Path

    def start(self, service: Service) -> None:
        """Start it unless it runs already. The process outlives this one and logs to its file."""
        if self.pid(service.name) is not None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        command = shutil.which(service.argv[0])
        if command is None:
            raise ClusterError(f"{service.argv[0]} is not installed: run `make cluster-up`, which installs it")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            command,
            service.argv,
            {**os.environ, **service.environment},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log(service.name)), flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        self._pid_file(service.name).write_text(f"{pid} {_start_time(pid)}")

    def pid(self, name: str) -> int | None:
        """Its process id while it runs. A recycled id is told apart by the start time."""
        try:
            pid, started = self._pid_file(name).read_text().split()
        except FileNotFoundError:
            return None
        return int(pid) if _start_time(int(pid)) == started else None

    def stop(self, name: str, *, how: signal.Signals = signal.SIGTERM, seconds: float = 10) -> None:
        """Ask it to end, insist after `seconds`, and return when it is gone."""
        pid = self.pid(name)
        if pid is not None:
            _send(pid, how)
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: self.pid(name) is None, seconds=seconds, else_raise=TimeoutError)
            if self.pid(name) is not None:
                _send(pid, signal.SIGKILL)
            wait_until(lambda: self.pid(name) is None, seconds=seconds, else_raise=lambda: _unkillable(name, pid))
        self._pid_file(name).unlink(missing_ok=True)

    def running(self) -> list[str]:
        return [name for name in self.known() if self.pid(name) is not None]

    def known(self) -> list[str]:
        """Every process that was started and not stopped since, dead or alive, in the order of their start."""
        files = sorted(self.directory.glob("*.pid"), key=lambda path: path.stat().st_mtime_ns)
        return [path.stem for path in files]

    def require(self, names: Iterable[str]) -> None:
        """Raise with the end of its log if one of them died."""
        for name in names:
            if self.pid(name) is None:
                raise ClusterError(f"{name} ended. {self.story(name)}")

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def story(self, name: str) -> str:
        """Where its log is and how it ends, for error messages."""
        return f"The end of {self.log(name)}:\n{self.tail(name)}"

    def tail(self, name: str) -> str:
        path = self.log(name)
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join(f"    {line}" for line in lines[-LOG_TAIL_LINES:])

    def _pid_file(self, name: str) -> Path:
        return self.directory / f"{name}.pid"


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def _start_time(pid: int) -> str | None:
    """Clock ticks since boot when the process began; None when it is gone or only waits to be reaped."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        # The command, in parentheses, may hold spaces: the fields after it are counted from its end.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def _send(pid: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)


def _unkillable(name: str, pid: int) -> ClusterError:
    return ClusterError(f"{name} (process {pid}) does not end even when killed: look at /proc/{pid}/stack")
