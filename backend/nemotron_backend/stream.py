"""Hold one request from its admission to its last response."""

import threading
from typing import Protocol

from nemotron_api.errors import NemotronError
from nemotron_backend.answer import Answer, Chunk
from nemotron_runtime import TokenEvent


class Reply(Protocol):
    """The way back to one client. Exactly one call is the last: `send` with `final`, or `fail`."""

    def send(self, chunk: Chunk, *, final: bool) -> None: ...

    def fail(self, error: NemotronError) -> None: ...

    def is_cancelled(self) -> bool: ...


class Stream:
    """A request in flight: events come in on the engine's thread and go out on the sender's."""

    def __init__(self, reply: Reply, admitted_at: float, deadline: float | None = None) -> None:
        self.reply = reply
        self.admitted_at = admitted_at
        self.deadline = deadline
        self.answer: Answer | None = None
        self.streams = False
        """Whether the client wants responses before the last one."""
        self.request_id: int | None = None
        self.last_token_at: float | None = None
        self.cause: NemotronError | None = None
        """Why the backend itself asked the engine to abort."""
        self.ended = False
        self._lock = threading.Lock()
        self._events: list[tuple[TokenEvent, float]] = []

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
