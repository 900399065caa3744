"""Serve an engine in a pod: start Triton, watch it, replace it when it breaks, drain it when asked to end."""

import argparse
import errno
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Final

from pydantic import ValidationError

from nemotron_api import names
from nemotron_api.build import TERMINATION_MESSAGE_BYTES, Failure, ServingConfig
from nemotron_api.errors import InvalidSpec, NemotronError, VolumeFull
from nemotron_backend import certificate, children, health, installation, seal, server
from nemotron_backend.probe import QUESTION_SECONDS, Prober, Question, Target, why_no_token
from nemotron_backend.run_directory import RunDirectory, Settings
from nemotron_backend.server import EXIT_SECONDS, Address, Server
from nemotron_backend.supervise import Action, Limits, Phase, Sight, State, decide

log = logging.getLogger(__name__)

PORTS: Final = ("grpc", "http", "metrics", "health")
TICK_SECONDS: Final = 0.1
FROZEN_SECONDS: Final = 10.0
NOTICE_SECONDS: Final = 5
"""How long a client may still use what it knew of a replica after its connection's age ended."""


class Launcher:
    """The loop that looks, asks `decide`, and acts."""

    def __init__(self, config: ServingConfig, engine: Path, address: Address, scratch: Path) -> None:
        self._config = config
        self._address = address
        self._run = RunDirectory(scratch / "run")
        self._run.path.mkdir()
        self._run.write_settings(settings(config))
        self._shm_prefix = f"nemotron_{os.getpid()}_"
        found = installation.find(scratch)
        self._command = server.command(found, config, engine, address, self._shm_prefix)
        self._environment = server.environment(found, self._run.path, os.environ)
        self._limits = limits(config)
        self._state = State(started_at=time.monotonic())
        self._terminated_at: float | None = None
        self._ticked_at = time.monotonic()
        self._failure: Failure | None = None

    def run(self) -> Failure | None:
        """Serve until told to end. Returns why it ended otherwise."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._terminate)
        children.adopt()
        token = Question(lambda: why_no_token(self._target, QUESTION_SECONDS))
        checks: dict[str, health.Check] = {
            "/livez": self._not_live,
            "/readyz": self._not_ready,
            names.TOKEN_PATH: token,
        }
        self._start()
        try:
            with health.serving(self._address.host, self._address.health, checks):
                while self._turn():
                    time.sleep(TICK_SECONDS)
        finally:
            self._server.kill()
        return self._failure

    def _turn(self) -> bool:
        """Look, decide, act; false when it is over."""
        self._ticked_at = time.monotonic()
        children.bury(keep=self._server.pid)
        decision = decide(self._state, self._look(), self._limits)
        if decision.why:
            moved = decision.state.phase is not self._state.phase
            to = decision.state.phase if moved else decision.action
            log.info("%s → %s: %s", self._state.phase.name, to.name, decision.why)
        self._state = decision.state
        match decision.action:
            case Action.RESTART:
                self._prober.stop()
                self._server.kill()
                self._start()
            case Action.REFUSE:
                self._run.refuse()
            case Action.STOP:
                self._prober.stop()
                self._server.terminate()
            case Action.KILL:
                self._server.kill()
            case Action.EXIT if self._state.phase is not Phase.STOPPING:
                self._failure = Failure.model_validate(self._run.read_failure() or _unexplained(decision.why))
        return decision.action is not Action.EXIT

    def _start(self) -> None:
        self._run.clear()
        tls = self._config.tls
        used = certificate.read(tls) if tls else None
        self._watch = certificate.Watch(tls, used) if tls and used else None
        self._server = Server(self._command, self._environment, self._shm_prefix)
        host = "127.0.0.1" if self._address.host == "0.0.0.0" else self._address.host
        self._target = Target(f"{host}:{self._address.grpc}", self._config.model, used)
        self._prober = Prober(self._target)

    def _look(self) -> Sight:
        pulse = self._run.read_pulse()
        now = time.monotonic()
        return Sight(
            now=now,
            terminated_at=self._terminated_at,
            server_exit=self._server.exit_code,
            stub_alive=pulse is None or children.is_alive(pulse.pid),
            generated=self._prober.generated,
            pulse=pulse,
            outdated=self._watch is not None and self._watch.is_outdated(now),
        )

    def _terminate(self, number: int, frame: FrameType | None) -> None:
        if self._terminated_at is None:
            self._terminated_at = time.monotonic()

    def _not_live(self) -> str | None:
        age = time.monotonic() - self._ticked_at
        return f"the launcher's loop has not turned for {age:.0f} s" if age > FROZEN_SECONDS else None

    def _not_ready(self) -> str | None:
        if self._terminated_at is None and self._state.phase is Phase.SERVING:
            return None
        phase = Phase.LINGERING if self._state.phase is Phase.SERVING else self._state.phase
        return f"{phase.value} ({self._prober.problem})" if phase is Phase.STARTING else phase.value


def limits(config: ServingConfig) -> Limits:
    """Admitting ends early enough that half of the drain's time is left for the streams."""
    linger = min(config.connection_age_seconds + NOTICE_SECONDS, config.drain_seconds / 2)
    # Triton's own timeout ends first, so that it can say what it waited for.
    made = Limits(linger, config.drain_seconds, exit_seconds=EXIT_SECONDS + 2)
    return made if config.start_seconds is None else replace(made, start_seconds=config.start_seconds)


def settings(config: ServingConfig) -> Settings:
    """What of the configuration is the model's affair."""
    made = Settings(
        config.max_waiting, config.client_limit, park_bytes=config.park_bytes, park_directory=config.park_directory
    )
    traced = config.tracing
    return replace(made, trace_url=traced.url, trace_ratio=traced.ratio) if traced else made


def _unexplained(why: str) -> dict[str, str]:
    return {"reason": NemotronError.reason, "message": why}


def read_config(path: Path) -> ServingConfig:
    """Raises InvalidSpec, saying what is wrong in which file."""
    try:
        return ServingConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidSpec(f"{path} cannot be read ({error.strerror}): --config names the serving.json") from error
    except ValidationError as error:
        raise InvalidSpec(f"{path} is not a serving configuration: {error}") from error


def report(failure: Failure, termination_log: Path) -> None:
    """Say why it ended: to the log, and to the kubelet where it gave a file for it."""
    log.error("%s: %s", failure.reason, failure.message)
    if termination_log.exists():
        termination_log.write_text(_fitting(failure).to_json())


def _fitting(failure: Failure) -> Failure:
    """`failure` with its message shortened to what the kubelet takes."""
    while len(failure.to_json().encode()) > TERMINATION_MESSAGE_BYTES:
        failure = failure.model_copy(update={"message": failure.message[: len(failure.message) * 3 // 4]})
    return failure


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    ports = {name: getattr(options, f"{name}_port") for name in PORTS}
    address = Address(options.host, **ports, http_host=options.http_host)
    try:
        config = read_config(options.config)
        engine = options.store / config.engine
        seal.verify(engine, config.manifest_sha256)
        failure = _launch(config, engine, address)
    except NemotronError as error:
        failure = Failure(reason=error.reason, message=str(error))
    except Exception as error:
        log.exception("the launcher failed")
        failure = Failure(reason=NemotronError.reason, message=f"{type(error).__name__}: {error}")
    if failure is None:
        return 0
    report(failure, options.termination_log)
    return 1


def _launch(config: ServingConfig, engine: Path, address: Address) -> Failure | None:
    """Raises VolumeFull where there is no room for the few small files that launcher and model share."""
    try:
        with tempfile.TemporaryDirectory(prefix="nemotron-") as scratch:
            return Launcher(config, engine, address, Path(scratch)).run()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise VolumeFull(
            f"no room in {tempfile.gettempdir()} ({error}): give the pod a larger scratch volume"
        ) from error


def _parser() -> argparse.ArgumentParser:
    defaults = Address()
    parser = argparse.ArgumentParser(prog="nemotron-serve", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="serving.json: which engine to serve, and how")
    parser.add_argument("--store", type=Path, default=Path("/store"), help="where the store's volume is mounted")
    parser.add_argument("--host", default=defaults.host, help="address to listen on")
    parser.add_argument("--http-host", default=defaults.http_host, help="address for Triton's HTTP, which is not safe")
    for name in PORTS:
        parser.add_argument(f"--{name}-port", type=int, default=getattr(defaults, name))
    parser.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
