"""Start the launcher with a real tritonserver."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemotron_api.build import Failure, Limits, ServingConfig
from nemotron_build import repository
from tests.builders import paced_engine
from tests.builders.paced_engine import Pace
from tests.integration.client import MODEL

START_SECONDS = 120.0
LIMITS = Limits(max_batch=8, max_sequence_tokens=4096)


@dataclass
class Serving:
    """One launcher with its server; `process` is the launcher, or the command that wraps it."""

    process: subprocess.Popen[bytes]
    host: str
    ports: Mapping[str, int]
    log: Path
    termination_log: Path
    wrapped: bool = False

    @property
    def grpc(self) -> str:
        return f"{self.host}:{self.ports['grpc']}"

    def url(self, port: str, path: str) -> str:
        return f"http://{self.host}:{self.ports[port]}{path}"

    def get(self, port: str, path: str) -> tuple[int, str]:
        """Status and body of an HTTP GET."""
        return _http(urllib.request.Request(self.url(port, path)))

    def post(self, body: bytes | dict[str, Any], path: str = f"/v2/models/{MODEL}/generate") -> tuple[int, str]:
        """Status and body of a JSON request to Triton's HTTP port."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        # Without this type the server of 2024 crashes on large bodies.
        headers = {"Content-Type": "application/json"}
        return _http(urllib.request.Request(self.url("http", path), data=data, headers=headers))

    def metrics(self) -> dict[str, float]:
        """The model's own metrics by name, labels included."""
        lines = self.get("metrics", "/metrics")[1].splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("nemotron_"))
        return {name: float(value) for name, value in pairs}

    def failures(self, reason: str) -> float:
        """Requests that failed for `reason` so far."""
        return self.metrics().get(f'nemotron_request_failures_total{{reason="{reason}"}}', 0.0)

    def is_ready(self) -> bool:
        return self._answers("/readyz")

    def is_live(self) -> bool:
        return self._answers("/livez")

    def _answers(self, path: str) -> bool:
        try:
            return self.get("health", path)[0] == 200
        except OSError:
            return False

    def wait(self, holds: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        """Until `holds`; the launcher's log goes into the failure."""
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {seconds:g} s\n{self.log.read_text()[-8000:]}")
            time.sleep(0.05)

    def wait_until_ready(self) -> None:
        def ready() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"the launcher ended with {self.process.returncode}\n{self.log.read_text()[-8000:]}")
            return self.is_ready()

        self.wait(ready, "ready")

    def stub(self) -> int:
        """Process id of the model's process."""
        return self._named("triton_python_b")

    def server(self) -> int:
        """Process id of tritonserver."""
        return self._named("tritonserver")

    def _named(self, name: str) -> int:
        return next(pid for pid, found in descendants(self.process.pid) if found == name)

    def launcher(self) -> int:
        """Process id of the launcher."""
        return descendants(self.process.pid)[0][0] if self.wrapped else self.process.pid

    def failure(self) -> Failure:
        """What a pod's status would show."""
        return Failure.model_validate_json(self.termination_log.read_bytes())

    def terminate(self) -> None:
        os.kill(self.launcher(), signal.SIGTERM)

    def stop(self) -> int:
        """End it as the kubelet does; the exit code."""
        self.terminate()
        try:
            return self.process.wait(60)
        finally:
            self.process.kill()


CHECKPOINT = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"


def a_paced_engine(store: Path, pace: Pace) -> ServingConfig:
    """Seal an engine of that pace in `store`, with the demo's tokenizer; what a pod that serves it is told."""
    return paced_engine.seal(store, pace, repository.config(MODEL), CHECKPOINT / "tokenizer.json")


StartServing = Callable[..., Serving]
"""Starts a server of a test's own; keywords are fields of ServingConfig, `store` or `wrapper`."""


def launch(store: Path, config: ServingConfig, scratch: Path, *, wrapper: tuple[str, ...] = ()) -> Serving:
    """Start `nemotron-serve` on free ports of the loopback interface; `wrapper` is a command that runs it."""
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "serving.json").write_text(config.to_json())
    termination_log = scratch / "termination-log"
    termination_log.touch()
    # The launcher may run as another user.
    termination_log.chmod(0o666)
    ports = free_ports("grpc", "http", "metrics", "health")
    command = [*wrapper, sys.executable, "-m", "nemotron_backend.launcher", "--host", "127.0.0.1"]
    command += ["--config", str(scratch / "serving.json"), "--store", str(store)]
    command += ["--termination-log", str(termination_log)]
    command += [f"--{name}-port={port}" for name, port in ports.items()]
    with (scratch / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    return Serving(process, "127.0.0.1", ports, scratch / "log", termination_log, wrapped=bool(wrapper))


def free_ports(*names: str) -> dict[str, int]:
    sockets = {name: socket.socket() for name in names}
    for found in sockets.values():
        found.bind(("127.0.0.1", 0))
    ports = {name: found.getsockname()[1] for name, found in sockets.items()}
    for found in sockets.values():
        found.close()
    return ports


def descendants(pid: int) -> list[tuple[int, str]]:
    """Process id and name of everything that `pid` started, directly or not; what ends meanwhile may be missing."""
    found: list[tuple[int, str]] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        # Threads and processes come and go between the list of them and a look at one.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, task.read_text().split()):
                found.append((child, Path(f"/proc/{child}/comm").read_text().strip()))
                found.extend(descendants(child))
    return found


def _http(request: urllib.request.Request) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code, error.read().decode()
