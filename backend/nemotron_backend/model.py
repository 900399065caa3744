"""Serve a sealed engine as a decoupled Triton model."""

import json
import logging
import os
import time
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Final

import triton_python_backend_utils as pb_utils

import nemotron_runtime
from nemotron_api.errors import NemotronError
from nemotron_backend import dashboard, metrics, tracing, triton
from nemotron_backend.exporter import Exporter
from nemotron_backend.run_directory import Pulse, RunDirectory, Settings
from nemotron_backend.service import Service
from nemotron_backend.thread import start
from nemotron_backend.tokenizer import Tokenizer

log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 0.25
SWEEPS_PER_BEAT: Final = 2
STALLED_SECONDS: Final = 60.0


class TritonPythonModel:
    """What Triton calls. The engine is the directory that holds the model repository this model lies in."""

    def initialize(self, args: dict[str, str]) -> None:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._run = RunDirectory.from_environment()
        engine = Path(args["model_repository"]).parents[1]
        try:
            self._service, facts = _open(engine, args["model_name"], self._run)
        except Exception as error:
            if self._run:
                reason = error.reason if isinstance(error, NemotronError) else NemotronError.reason
                self._run.write_failure(reason, str(error))
            raise
        self._max_sequence_tokens = facts["max_sequence_tokens"]
        self._identity = dashboard.Identity(args["model_name"], args["model_version"], facts.get("page_tokens"))
        self._exporter = Exporter(pb_utils.MetricFamily)
        self._closing = Event()
        # The first pulse is there before the first request, or the launcher could miss the death of this process.
        self._beat()
        self._housekeeper = start("housekeeper", self._keep_house)

    def execute(self, requests: list[Any]) -> None:
        """Take requests in; their responses are sent later. Must not block: the server waits here."""
        for request in requests:
            self._service.admit(partial(triton.read, request, self._max_sequence_tokens), triton.TritonReply(request))

    def is_ready(self) -> bool:
        """Asked by servers of 2026 and later."""
        service = self._service
        return not (service.is_refusing() or service.has_failed) and service.stall_seconds < STALLED_SECONDS

    def finalize(self) -> None:
        self._closing.set()
        self._housekeeper.join()
        self._service.close()

    def _keep_house(self) -> None:
        sweeps = 0
        while not self._closing.wait(SWEEP_SECONDS):
            self._service.sweep()
            sweeps += 1
            if sweeps % SWEEPS_PER_BEAT == 0:
                self._beat()

    def _beat(self) -> None:
        self._exporter.export(metrics.collect(self._service, self._identity))
        if self._run:
            self._run.write_pulse(_pulse(self._service))


def _open(directory: Path, model: str, run: RunDirectory | None) -> tuple[Service, dict[str, Any]]:
    """A service for the engine in `directory`, and what its runtime.json says."""
    settings = run.read_settings() if run else Settings()
    tokenizer = Tokenizer(directory)
    engine = nemotron_runtime.open_engine(
        directory,
        max_waiting=settings.max_waiting,
        park_bytes=settings.park_bytes,
        park_directory=Path(settings.park_directory) if settings.park_directory else None,
    )
    facts: dict[str, Any] = json.loads((directory / "runtime.json").read_text())
    tracer = tracing.otlp(settings.trace_url, model, settings.trace_ratio) if settings.trace_url else tracing.NOBODY
    service = Service(
        engine,
        tokenizer,
        facts["max_sequence_tokens"],
        lambda: run is not None and run.is_refusing,
        client_limit=settings.client_limit,
        tracer=tracer,
    )
    return service, facts


def _pulse(service: Service) -> Pulse:
    refusing = service.is_refusing()
    return Pulse(
        pid=os.getpid(),
        written_at=time.monotonic(),
        stall_seconds=service.stall_seconds,
        refusing=refusing,
        active=service.active,
        failed=service.has_failed,
    )
