"""Make an engine without a model: one token per request and step, at a pace the test sets."""

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from nemotron_api.build import COMPLETE, MANIFEST, FileEntry, Manifest, ServingConfig
from nemotron_api.errors import Overloaded, RequestError
from nemotron_runtime import EngineStats, FinishReason, SamplingParams, Sink, Terms, TokenEvent
from nemotron_runtime.types import DEFAULT_TERMS

REPOSITORY = Path(__file__).parents[2]
MODEL = "tiny"
PAGE_TOKENS = 16
FIRST, LETTERS = 16 + ord("a"), 26
EXPLODE = 3
"""A prompt that is this one token ends the step loop with an exception."""

_SOURCE = """\
import sys
sys.path.insert(0, {repository!r})
import nemotron_runtime
from tests.builders.paced_engine import PacedEngine
nemotron_runtime.open_engine = lambda directory, max_waiting, **_: PacedEngine.open(directory, max_waiting)
from nemotron_backend.model import TritonPythonModel as TritonPythonModel
"""


def token_at(position: int) -> int:
    """The token every answer has at `position`: the alphabet, again and again."""
    return FIRST + position % LETTERS


@dataclass(frozen=True, slots=True)
class Pace:
    """`slots` requests advance by a token every `step_seconds`."""

    step_seconds: float
    slots: int = 64
    max_sequence_tokens: int = 100_000


@dataclass(slots=True)
class _Request:
    id: int
    prompt: int
    sampling: SamplingParams
    sink: Sink
    explodes: bool
    made: int = 0

    @property
    def pages(self) -> int:
        return -(-(self.prompt + self.made) // PAGE_TOKENS)


@dataclass
class PacedEngine:
    """Schedules as the real one does, without a model: first come, first served, and no memory to wait for."""

    pace: Pace
    max_waiting: int
    waiting: list[_Request] = field(default_factory=list)
    running: list[_Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Condition()
        self._aborts: set[int] = set()
        self._last_id = self._steps = self._generated = 0
        self._failure: str | None = None
        self._closing = False
        self._turned_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="paced-engine", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, directory: Path, max_waiting: int) -> "PacedEngine":
        return cls(Pace(**json.loads((directory / "pace.json").read_text())), max_waiting)

    def submit(
        self,
        prompt: Sequence[int],
        sampling: SamplingParams,
        sink: Sink,
        *,
        resumed: Sequence[int] = (),
        terms: Terms = DEFAULT_TERMS,
    ) -> int:
        with self._lock:
            if self._failure:
                raise RequestError(self._failure)
            if len(self.waiting) >= self.max_waiting:
                raise Overloaded(f"{len(self.waiting)} requests wait already")
            self._last_id += 1
            request = _Request(self._last_id, len(prompt), sampling, sink, list(prompt) == [EXPLODE])
            self.waiting.append(request)
            self._lock.notify()
            return request.id

    def abort(self, request_id: int) -> None:
        with self._lock:
            self._aborts.add(request_id)
            self._lock.notify()

    def stats(self) -> EngineStats:
        with self._lock:
            pages = sum(request.pages for request in self.running)
            backlog = sum(request.prompt for request in self.waiting)
            slots = self.pace.slots
            total = slots * self.pace.max_sequence_tokens // PAGE_TOKENS
            counts = (len(self.waiting), len(self.running), slots, len(self.running), total, pages, backlog)
            return EngineStats(*counts, self._steps, 0, self._generated, self.pace.step_seconds)

    def heartbeat(self) -> float:
        return time.monotonic() - self._turned_at

    def close(self) -> None:
        with self._lock:
            self._closing = True
            self._lock.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closing:
                self._turn()
        except ZeroDivisionError:
            self._failure = "the engine has stopped"
        self._end([*self.running, *self.waiting], "error" if self._failure else "aborted")
        self.running, self.waiting = [], []

    def _turn(self) -> None:
        started = self._turned_at = time.monotonic()
        with self._lock:
            asked, self._aborts = self._aborts, set()
            gone = [request for request in (*self.running, *self.waiting) if request.id in asked]
            self.running = [request for request in self.running if request.id not in asked]
            self.waiting = [request for request in self.waiting if request.id not in asked]
            free = self.pace.slots - len(self.running)
            self.running += self.waiting[:free]
            self.waiting = self.waiting[free:]
            batch = list(self.running)
            if not batch and not gone and not self._closing:
                self._lock.wait(0.5)
        self._end(gone, "aborted")
        if batch:
            self._step(batch)
            time.sleep(max(self.pace.step_seconds - (time.monotonic() - started), 0))

    def _step(self, batch: Sequence[_Request]) -> None:
        if any(request.explodes for request in batch):
            raise ZeroDivisionError
        with self._lock:
            self._steps += 1
            self._generated += len(batch)
            for request in batch:
                request.made += 1
            self.running = [request for request in self.running if request.made < request.sampling.max_tokens]
        for request in batch:
            last = request.made >= request.sampling.max_tokens
            request.sink(TokenEvent(request.id, token_at(request.made - 1), "length" if last else None))

    def _end(self, requests: Sequence[_Request], reason: FinishReason) -> None:
        for request in requests:
            request.sink(TokenEvent(request.id, None, reason, self._failure))


def seal(store: Path, pace: Pace, render_config: str, tokenizer: Path) -> ServingConfig:
    """Write a sealed engine of that pace below `store`; what a pod that serves it is told."""
    engine = store / "engines" / "paced"
    version = engine / "model_repository" / MODEL / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(render_config)
    (version / "model.py").write_text(_SOURCE.format(repository=str(REPOSITORY)))
    shutil.copy(tokenizer, engine / "tokenizer.json")
    (engine / "pace.json").write_text(json.dumps(asdict(pace)))
    facts = {"max_sequence_tokens": pace.max_sequence_tokens, "page_tokens": PAGE_TOKENS}
    (engine / "runtime.json").write_text(json.dumps(facts))
    files = tuple(_entry(engine, path) for path in sorted(engine.rglob("*")) if path.is_file())
    digest = "sha256:" + "0" * 64
    manifest = Manifest(kind="Engine", fingerprint="0" * 64, request={}, digest=digest, files=files).to_json()
    (engine / MANIFEST).write_text(manifest)
    (engine / COMPLETE).touch()
    sha256 = hashlib.sha256(manifest.encode()).hexdigest()
    return ServingConfig(
        model=MODEL, engine="engines/paced", manifest_sha256=sha256, drain_seconds=4, connection_age_seconds=30
    )


def _entry(engine: Path, path: Path) -> FileEntry:
    content = path.read_bytes()
    return FileEntry(path=str(path.relative_to(engine)), sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
