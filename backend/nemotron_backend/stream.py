"""Hold one request from its admission to its last response."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from nemotron_api.errors import NemotronError
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


class Stream:
    """A request in flight: events come in on the engine's thread and go out on the sender's."""

    def __init__(self, reply: Reply, admitted_at: float) -> None:
        self.reply = reply
        self.admitted_at = admitted_at
        self.wishes = DEFAULTS
        self.answer: Answer | None = None
        self.streams = False
        """Whether the client wants responses before the last one."""
        self.prompt_tokens = 0
        self.tokens = 0
        """Tokens taken from the engine, of which `sent` are sent; a check for cancellation was made at `checked`."""
        self.sent = 0
        self.checked = 0
        self.request_id: int | None = None
        self.first_token_at: float | None = None
        self.last_token_at: float | None = None
        self.cause: NemotronError | None = None
        """Why the backend itself asked the engine to abort."""
        self.ended = False
        self._lock = threading.Lock()
        self._events: list[tuple[TokenEvent, float]] = []

    @property
    def deadline(self) -> float | None:
        """Seconds of the clock after which nobody waits for the answer."""
        seconds = self.wishes.timeout_seconds
        return None if seconds is None else self.admitted_at + seconds

    @property
    def is_worth_sending(self) -> bool:
        """Whether what is gathered makes a response, the last one apart."""
        enough = self.tokens - self.sent >= self.wishes.stream_interval
        return self.streams and (enough or (self.sent == 0 and self.tokens > 0))

    def push(self, event: TokenEvent, now: float) -> bool:
        """Keep `event`. True when it is the first that waits, so the stream must be queued for sending."""
        with self._lock:
            self._events.append((event, now))
            return len(self._events) == 1

    def take(self) -> list[tuple[TokenEvent, float]]:
        """All events that wait, with the seconds at which they came."""
        with self._lock:
            events, self._events = self._events, []
            return events

    def claim_end(self) -> bool:
        """True for the one caller that may send the last response."""
        with self._lock:
            first, self.ended = not self.ended, True
            return first
