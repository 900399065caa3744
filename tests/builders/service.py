"""Stand in for what is around the service: an engine that obeys, a reply that remembers."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nemotron_api.errors import NemotronError, Overloaded
from nemotron_backend.answer import Chunk
from nemotron_backend.request import GenerationRequest
from nemotron_backend.service import Service
from nemotron_backend.stream import Call
from nemotron_backend.vocabulary import Vocabulary
from nemotron_backend.wishes import DEFAULTS, Wishes
from nemotron_runtime import EngineStats, SamplingParams, Sink, Terms, TokenEvent, TokenLogprobs
from nemotron_runtime.histogram import Observed
from nemotron_runtime.types import DEFAULT_TERMS
from tests.builders.byte_level import byte_level


@dataclass
class ScriptedEngine:
    """Does what the test says, on the test's thread."""

    sinks: dict[int, Sink] = field(default_factory=dict)
    aborted: list[int] = field(default_factory=list)
    refusal: Exception | None = None
    at_once: tuple[int, ...] = ()
    """Tokens that come before `submit` has returned."""
    terms: list[Terms] = field(default_factory=list)
    samplings: list[SamplingParams] = field(default_factory=list)
    resumed: list[Sequence[int]] = field(default_factory=list)
    places: int | None = None
    """Requests after which the others are refused."""
    closed: bool = False

    def submit(
        self,
        prompt: Sequence[int],
        sampling: SamplingParams,
        sink: Sink,
        *,
        resumed: Sequence[int] = (),
        terms: Terms = DEFAULT_TERMS,
    ) -> int:
        if self.refusal:
            raise self.refusal
        if len(self.sinks) == self.places:
            raise Overloaded("the queue is full")
        request_id = len(self.sinks) + 1
        self.sinks[request_id] = sink
        self.terms.append(terms)
        self.samplings.append(sampling)
        self.resumed.append(resumed)
        for token in self.at_once:
            sink(TokenEvent(request_id, token, None))
        return request_id

    def make(
        self, request_id: int, *tokens: int, end: str | None = None, logprobs: TokenLogprobs | None = None
    ) -> None:
        for index, token in enumerate(tokens):
            last = end if index == len(tokens) - 1 else None
            self.sinks[request_id](TokenEvent(request_id, token, last, logprobs=logprobs))  # type: ignore[arg-type]

    def fail(self, request_id: int, text: str) -> None:
        self.sinks[request_id](TokenEvent(request_id, None, "error", text))

    def abort(self, request_id: int) -> None:
        if request_id not in self.aborted:
            self.aborted.append(request_id)
            self.sinks[request_id](TokenEvent(request_id, None, "aborted"))

    def stats(self) -> EngineStats:
        steps = Observed((0.16, 0.32), (6, 1, 0), 0.25 + 6 * 0.01)
        return EngineStats(1, 2, 8, 2, 100, 5, 30, 7, 40, 50, 0.25, 64, 10, 9, 3, steps)

    def heartbeat(self) -> float:
        return 0.125

    def close(self) -> None:
        self.closed = True


class Letters:
    """One token per letter."""

    vocabulary = Vocabulary(byte_level("<think>", "</think>"))

    def encode(self, text: str, limit: int) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


class RecordedReply:
    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.errors: list[NemotronError] = []
        self.lasts = 0
        self.ended = threading.Event()
        self.broken = False
        self.cancelled = False
        self.asked = 0

    def send(self, chunk: Chunk, *, final: bool) -> None:
        if self.broken:
            raise OSError("the server is gone")
        self.chunks.append(chunk)
        if final:
            self._end()

    def fail(self, error: NemotronError) -> None:
        self.errors.append(error)
        self._end()

    def is_cancelled(self) -> bool:
        self.asked += 1
        return self.cancelled

    def _end(self) -> None:
        self.lasts += 1
        self.ended.set()

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)


GREEDY = SamplingParams()


def a_request(
    prompt: str = "hi", wishes: Wishes = DEFAULTS, sampling: SamplingParams = GREEDY, **changed: object
) -> Callable[[], Call]:
    request = GenerationRequest(prompt, sampling, **changed)  # type: ignore[arg-type]
    return lambda: Call(lambda: request, wishes)


def a_service(
    engine: ScriptedEngine, refusing: bool = False, clock: Callable[[], float] = lambda: 0.0, **more: Any
) -> Service:
    return Service(engine, Letters(), 100, lambda: refusing, clock, **more)


def settle(service: Service, engine: ScriptedEngine) -> None:
    """Wait until everything made so far has been sent: it goes out in order, so another request's answer tells."""
    marker = RecordedReply()
    service.admit(a_request(), marker)
    engine.make(len(engine.sinks), *b"m", end="stop")
    assert marker.ended.wait(10)


def ended(service: Service, reply: RecordedReply) -> RecordedReply:
    """`reply` once everything that was on its way has been sent."""
    assert reply.ended.wait(10)
    service.close()
    assert reply.lasts == 1
    assert service.active == 0
    return reply
