"""Hold one request from its admission to its last response."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nemotron_api.errors import DeadlineExceeded, NemotronError, RequestError
from nemotron_backend.answer import Answer, Chunk
from nemotron_backend.request import GenerationRequest
from nemotron_backend.wishes import DEFAULTS, Wishes
from nemotron_runtime import TokenEvent


class Reply(Protocol):
    """The way back to one client. Exactly one call is the last: `send` with `final`, or `fail`."""

    def send(self, chunk: Chunk, *, final: bool) -> None: ...

    def fail(self, error: NemotronError) -> None: ...

    def is_cancelled(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose wishes are read; what to generate is read once it is clear that it may join."""

    read: Callable[[], GenerationRequest]
    """Raises InvalidRequest."""
    wishes: Wishes = DEFAULTS


@dataclass(slots=True, eq=False)
class Part:
    """One of the answers that a request asks for; the engine knows it by a request of its own."""

    answer: Answer
    request_id: int | None = None
    tokens: int = 0
    """Tokens taken from the engine, of which `sent` are sent."""
    sent: int = 0
    last_token_at: float | None = None

    @property
    def is_tokenless(self) -> bool:
        """Whether the engine has it, and has made no token of it."""
        return self.request_id is not None and self.last_token_at is None

    @property
    def is_done(self) -> bool:
        return bool(self.answer.finish_reason)


class Stream:
    """A request in flight: events come in on the engine's thread and go out on the sender's."""

    def __init__(self, reply: Reply, admitted_at: float) -> None:
        self.reply = reply
        self.admitted_at = admitted_at
        self.wishes = DEFAULTS
        self.parts: tuple[Part, ...] = ()
        self.streams = False
        """Whether the client wants responses before the last one."""
        self.prompt_tokens = 0
        self.checked = 0
        """At which number of tokens a check for cancellation was made."""
        self.first_token_at: float | None = None
        self.cause: NemotronError | None = None
        """Why the backend itself asked the engine to abort."""
        self.ended = False
        self._lock = threading.Lock()
        self._events: list[tuple[Part, TokenEvent, float]] = []

    @property
    def deadline(self) -> float | None:
        """Seconds of the clock after which nobody waits for the answer."""
        seconds = self.wishes.timeout_seconds
        return None if seconds is None else self.admitted_at + seconds

    @property
    def tokens(self) -> int:
        """Taken from the engine, of all answers."""
        return sum(part.tokens for part in self.parts)

    @property
    def request_ids(self) -> tuple[int, ...]:
        """By which the engine knows it; none before it was submitted."""
        return tuple(part.request_id for part in self.parts if part.request_id is not None)

    @property
    def is_done(self) -> bool:
        """Whether every answer has its end."""
        return bool(self.parts) and all(part.is_done for part in self.parts)

    def is_late(self, now: float) -> bool:
        return self.deadline is not None and now > self.deadline

    @property
    def lateness(self) -> DeadlineExceeded:
        return DeadlineExceeded(f"the request's own timeout of {self.wishes.timeout_seconds:g} s has passed")

    def cause_of(self, last: TokenEvent, now: float) -> NemotronError:
        """Why the engine gave it up, with `last` as its last event."""
        if self.cause is None and self.is_late(now):
            return self.lateness
        return self.cause or RequestError(last.error or "the engine aborted the request")

    def is_worth_sending(self, part: Part) -> bool:
        """Whether what is gathered of an answer makes a response."""
        enough = part.tokens - part.sent >= self.wishes.stream_interval
        return part.is_done or (self.streams and (enough or (part.sent == 0 and part.tokens > 0)))

    def push(self, part: Part, event: TokenEvent, now: float) -> bool:
        """Keep `event`. True when it is the first that waits, so the stream must be queued for sending."""
        with self._lock:
            self._events.append((part, event, now))
            return len(self._events) == 1

    def take(self) -> dict[Part, list[tuple[TokenEvent, float]]]:
        """All events that wait, by the answer they belong to, with the seconds at which they came."""
        with self._lock:
            events, self._events = self._events, []
        taken: dict[Part, list[tuple[TokenEvent, float]]] = {}
        for part, event, at in events:
            taken.setdefault(part, []).append((event, at))
        return taken

    def claim_end(self) -> bool:
        """True for the one caller that may send the last response."""
        with self._lock:
            first, self.ended = not self.ended, True
            return first
