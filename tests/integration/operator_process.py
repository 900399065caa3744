"""Run the operator as its own process, as a pod would."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from nemotron_operator.settings import Settings
from tests.integration.control_plane import PATIENCE_SECONDS, free_port


@dataclass
class OperatorProcess:
    """One `nemotron-operator run`, which can be killed and started again."""

    directory: Path
    kubeconfig: Path
    settings: Settings
    _process: subprocess.Popen[bytes] | None = None
    _health: int = field(default=0)

    @property
    def log(self) -> Path:
        return self.directory / "operator.log"

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it says that it is alive."""
        self._health = free_port()
        ports = {"health_port": self._health, "metrics_port": free_port()}
        file = self.directory / "settings.json"
        file.write_text(self.settings.model_copy(update=ports).to_json())
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "nemotron_operator.cli", "run", "--settings", str(file)],
                env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.is_healthy():
            assert self.is_running, f"the operator ended:\n{self.tail()}"
            assert time.monotonic() < deadline, f"the operator does not come up:\n{self.tail()}"
            time.sleep(0.1)

    def is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health}/healthz", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def kill(self) -> None:
        """SIGKILL: nothing of it gets to tidy up."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, as the kubelet asks; the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(how)
        return self._process.wait(timeout=PATIENCE_SECONDS)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-60:])
