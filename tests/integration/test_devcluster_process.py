"""Long-lived processes are found again, told apart from strangers, and really end."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.process import Processes, Service, children
from nemotron_devcluster.progress import wait_until

pytestmark = pytest.mark.integration

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    table = Processes(tmp_path / "processes")
    yield table
    for name in table.known():
        table.stop(name, how=signal.SIGKILL)


def python(name: str, code: str) -> Service:
    return Service(name, (sys.executable, "-c", code))


def test_a_process_is_found_again_by_name(processes: Processes) -> None:
    processes.start(python("sleeper", "import time; time.sleep(60)"))

    again = Processes(processes.directory)
    pid = again.pid("sleeper")
    again.start(python("sleeper", "raise SystemExit('a second one')"))

    assert pid is not None
    assert again.pid("sleeper") == pid
    assert again.running() == ["sleeper"]


def test_a_process_outlives_its_terminal(processes: Processes) -> None:
    processes.start(python("sleeper", "import time; time.sleep(60)"))

    pid = processes.pid("sleeper")
    assert pid is not None
    assert os.getsid(pid) == pid


def test_stopping_ends_it_and_forgets_it(processes: Processes) -> None:
    processes.start(python("sleeper", "import time; time.sleep(60)"))
    pid = processes.pid("sleeper")

    processes.stop("sleeper")
    processes.stop("sleeper")

    assert not Path(f"/proc/{pid}").exists()
    assert processes.known() == []


def test_who_ignores_the_request_to_end_is_killed(processes: Processes) -> None:
    processes.start(python("stubborn", STUBBORN))
    wait_until(lambda: "ready" in processes.tail("stubborn"), seconds=30, else_raise=AssertionError)

    processes.stop("stubborn", seconds=0.5)

    assert processes.running() == []


def test_a_recycled_process_id_is_a_stranger(processes: Processes) -> None:
    processes.directory.mkdir()
    (processes.directory / "gone.pid").write_text(f"{os.getpid()} 1")

    processes.stop("gone")

    assert processes.pid("gone") is None


def test_the_end_of_its_log_says_why_a_process_died(processes: Processes) -> None:
    processes.start(python("failing", "raise SystemExit('port 6443 is taken')"))
    wait_until(lambda: processes.pid("failing") is None, seconds=30, else_raise=AssertionError)

    with pytest.raises(ClusterError, match=r"failing ended.*\n.*port 6443 is taken"):
        processes.require(["failing"])


def test_a_command_that_is_not_there_is_named(processes: Processes) -> None:
    with pytest.raises(ClusterError, match="no-such-command is not installed"):
        processes.start(Service("missing", ("no-such-command",)))


def test_processes_are_known_in_the_order_of_their_start(processes: Processes) -> None:
    for name in ("second", "first"):
        processes.start(python(name, "import time; time.sleep(60)"))
        time.sleep(0.02)

    assert processes.known() == ["second", "first"]


def test_children_are_listed(processes: Processes) -> None:
    processes.start(Service("parent", ("sh", "-c", "sleep 60 & wait")))
    parent = processes.pid("parent")
    assert parent is not None

    wait_until(lambda: len(children(parent)) == 1, seconds=30, else_raise=AssertionError)
    for child in children(parent):
        os.kill(child, signal.SIGKILL)
