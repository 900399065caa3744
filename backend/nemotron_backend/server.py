"""Run the tritonserver process."""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nemotron_api.build import ServingConfig, Tls
from nemotron_backend.installation import Installation
from nemotron_backend.run_directory import RUN_DIRECTORY

EXIT_SECONDS: Final = 5
"""What Triton gets to stop once nothing is in flight."""

SHARED_MEMORY: Final = Path("/dev/shm")
RESTRICTED: Final = "model-repository,shared-memory,trace,logging"
"""Protocols through which a client could unload the model or map this pod's memory."""
FORWARDED: Final = "traceparent|tracestate"
"""gRPC headers that the model is to see: it continues the trace, once per request, where Triton would per response."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the pod listens."""

    host: str = "0.0.0.0"
    grpc: int = 8001
    http: int = 8000
    http_host: str = "127.0.0.1"
    """The HTTP port of the server of 2024 crashes at a large form; it is for this machine alone."""
    metrics: int = 8002
    health: int = 8080


def command(
    installation: Installation, config: ServingConfig, engine: Path, address: Address, shm_prefix: str
) -> list[str]:
    """The server's command line: this one model, loaded before any port listens."""
    # Nobody learns the key, so nobody uses these protocols.
    key = secrets.token_hex(16)
    flags = {
        "model-repository": engine / "model_repository",
        "backend-directory": installation.backends,
        "backend-config": f"python,shm-region-prefix-name={shm_prefix}",
        "model-control-mode": "explicit",
        "load-model": config.model,
        "exit-timeout-secs": EXIT_SECONDS,
        "http-address": address.http_host,
        "http-port": address.http,
        "http-restricted-api": f"{RESTRICTED}:key={key}",
        "grpc-address": address.host,
        "grpc-port": address.grpc,
        "grpc-restricted-protocol": f"{RESTRICTED}:key={key}",
        "grpc-max-connection-age": config.connection_age_seconds * 1000,
        "grpc-max-connection-age-grace": config.drain_seconds * 1000,
        "grpc-header-forward-pattern": FORWARDED,
        "metrics-address": address.host,
        "metrics-port": address.metrics,
        "allow-gpu-metrics": str(Path("/dev/nvidiactl").exists()).lower(),
        "pinned-memory-pool-byte-size": 0,
        "log-format": "ISO8601",
    } | (_tls(config.tls) if config.tls else {})
    return [
        str(installation.binary),
        "--disable-auto-complete-config",
        *(f"--{name}={value}" for name, value in flags.items()),
    ]


def _tls(tls: Tls) -> dict[str, str]:
    files = {"grpc-server-cert": tls.certificate, "grpc-server-key": tls.key}
    if tls.ca is None:
        return {"grpc-use-ssl": "true", **files}
    return {"grpc-use-ssl-mutual": "true", **files, "grpc-root-cert": tls.ca}


def environment(installation: Installation, run: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """What the server and, through it, the model's process see."""
    libraries = [*map(str, installation.libraries), *filter(None, [inherited.get("LD_LIBRARY_PATH")])]
    # The stub takes the first python3 on PATH for its own, with that environment's packages.
    path = [str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)]
    return {
        **inherited,
        "PATH": os.pathsep.join(path),
        "LD_LIBRARY_PATH": os.pathsep.join(libraries),
        "TOKENIZERS_PARALLELISM": "false",
        RUN_DIRECTORY: str(run),
    }


class Server:
    """One tritonserver with its children, in a process group of their own."""

    def __init__(self, command: list[str], environment: Mapping[str, str], shm_prefix: str) -> None:
        self._shm_prefix = shm_prefix
        sweep_shared_memory(shm_prefix)
        self._process = subprocess.Popen(command, env=environment, start_new_session=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, or nothing while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """Ask it to stop; it waits for requests in flight."""
        self._process.terminate()

    def kill(self) -> None:
        """End it and its children now: clients' connections break at once instead of hanging."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        sweep_shared_memory(self._shm_prefix)


def sweep_shared_memory(prefix: str) -> None:
    """Remove the regions that a server which did not end by itself left behind."""
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)
