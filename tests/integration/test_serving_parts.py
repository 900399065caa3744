"""The launcher's dealings with processes and probes, without a server."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from nemotron_backend import children, health

pytestmark = pytest.mark.integration


def test_probes_are_answered() -> None:
    problems: list[str] = []
    checks = {"/readyz": lambda: problems[0] if problems else None}

    with health.serving("127.0.0.1", 0, checks) as port:
        url = f"http://127.0.0.1:{port}/readyz"
        with urllib.request.urlopen(url) as reply:
            assert (reply.status, reply.read()) == (200, b"ok\n")
        problems.append("not yet")
        with pytest.raises(urllib.error.HTTPError) as raised:
            urllib.request.urlopen(url)

    with closing(raised.value):
        assert (raised.value.code, raised.value.read()) == (503, b"not yet\n")


def test_ended_children_are_buried_but_for_the_one_whose_exit_code_matters() -> None:
    other = subprocess.Popen([sys.executable, "-c", ""])
    kept = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    assert not children.is_alive(other.pid)

    children.bury(keep=kept.pid)
    assert not Path(f"/proc/{other.pid}").exists()
    assert children.is_alive(kept.pid)

    kept.kill()
    os.waitid(os.P_PID, kept.pid, os.WEXITED | os.WNOWAIT)
    children.bury(keep=kept.pid)
    kept.communicate()
    assert kept.returncode == -9
    other.wait()


def test_the_living_are_alive() -> None:
    assert children.is_alive(os.getpid())
    assert not children.is_alive(2**22 + 1)


def test_the_launcher_stays_small() -> None:
    """It lives beside the model in one pod: torch in both would cost half a gigabyte."""
    script = "import json, sys; import nemotron_backend.launcher; print(json.dumps(sorted(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout

    assert not {"torch", "nemotron_runtime", "tokenizers"} & set(json.loads(loaded))
