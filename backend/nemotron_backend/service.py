"""Carry requests between clients and the engine; everything Triton stays outside."""

import logging
import queue
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from nemotron_api.errors import Cancelled, DeadlineExceeded, NemotronError, RequestError, ShuttingDown
from nemotron_backend.answer import Answer
from nemotron_backend.request import GenerationRequest
from nemotron_backend.stream import Reply, Stream
from nemotron_backend.tally import Tally
from nemotron_backend.thread import start
from nemotron_runtime import Engine, TokenEvent

log = logging.getLogger(__name__)


class Tokenizer(Protocol):
    """What the service needs of a tokenizer."""

    def encode(self, text: str, limit: int) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...


class Service:
    """Admits requests, sends what the engine makes of them, and forgets those that ended.

    One thread sends for all streams: sending is a rendezvous with the server's process that takes longer than making
    a token, so whatever a stream gathered meanwhile goes out as one response.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        max_sequence_tokens: int,
        is_refusing: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self.tally = Tally()
        self.is_refusing = is_refusing
        self._tokenizer = tokenizer
        self._max_sequence_tokens = max_sequence_tokens
        self._clock = clock
        self._streams: set[Stream] = set()
        self._ready: queue.SimpleQueue[Stream | None] = queue.SimpleQueue()
        self._sending_since: float | None = None
        self._sender = start("sender", self._send_all)

    @property
    def active(self) -> int:
        """Requests whose last response is still to be sent."""
        return len(self._streams)

    @property
    def stall_seconds(self) -> float:
        """Since the engine's loop or the sender last turned: small in a healthy process, idle or not."""
        since = self._sending_since
        return max(self.engine.heartbeat(), 0.0 if since is None else self._clock() - since)

    def admit(self, read: Callable[[], GenerationRequest], reply: Reply, timeout_seconds: float | None = None) -> None:
        """Take a request in, or answer it with what is wrong; raises nothing."""
        now = self._clock()
        stream = Stream(reply, now, None if timeout_seconds is None else now + timeout_seconds)
        # First counted, then asked: when the launcher reads "refusing, none active", nobody is between the two.
        self._streams.add(stream)
        self.tally.admitted()
        try:
            if self.is_refusing():
                raise ShuttingDown("this replica is shutting down: send the request again, another one serves it")
            self._submit(stream, read())
        except Exception as error:  # noqa: BLE001  whatever it is, the client must get its last response
            self._fail(stream, _named(error))

    def sweep(self) -> None:
        """Abort what nobody waits for any more."""
        for stream in list(self._streams):
            if stream.request_id is None or stream.cause is not None:
                continue
            if stream.reply.is_cancelled():
                self._abort(stream, Cancelled("the client cancelled the request"))
            elif stream.deadline is not None and self._clock() > stream.deadline:
                seconds = stream.deadline - stream.admitted_at
                self._abort(stream, DeadlineExceeded(f"the request's own timeout of {seconds:g} s has passed"))

    def close(self) -> None:
        """End the engine and the sender; requests still active are told."""
        self.engine.close()
        self._ready.put(None)
        self._sender.join()

    def _submit(self, stream: Stream, request: GenerationRequest) -> None:
        prompt = request.prompt
        ids = self._tokenizer.encode(prompt, self._max_sequence_tokens) if isinstance(prompt, str) else list(prompt)
        stream.answer = Answer(request, len(ids), self._tokenizer.decode)
        stream.streams = request.stream
        stream.request_id = self.engine.submit(ids, request.sampling, partial(self._receive, stream))
        # A stop word may have ended the stream before its id was known here.
        if stream.ended:
            self.engine.abort(stream.request_id)

    def _receive(self, stream: Stream, event: TokenEvent) -> None:
        if stream.push(event, self._clock()):
            self._ready.put(stream)

    def _send_all(self) -> None:
        while (stream := self._ready.get()) is not None:
            self._sending_since = self._clock()
            try:
                self._deliver(stream)
            except Exception as error:  # noqa: BLE001  one stream's failure must not end the others
                self._fail(stream, _named(error))
            self._sending_since = None

    def _deliver(self, stream: Stream) -> None:
        events = stream.take()
        if stream.ended or stream.answer is None:
            return
        last = events[-1][0]
        produced = [(event.token, at) for event, at in events if event.token is not None]
        if produced:
            times = [at for _, at in produced]
            self.tally.produced(stream.admitted_at, stream.last_token_at, times)
            stream.last_token_at = times[-1]
        if last.finish_reason in ("aborted", "error"):
            self._fail(stream, stream.cause or RequestError(last.error or "the engine aborted the request"))
            return
        stream.answer.extend([token for token, _ in produced], last.finish_reason or "")
        final = bool(stream.answer.finish_reason)
        if final or stream.streams:
            stream.reply.send(stream.answer.take(), final=final)
        if final:
            self._end(stream)

    def _abort(self, stream: Stream, cause: NemotronError) -> None:
        stream.cause = cause
        if stream.request_id is not None:
            self.engine.abort(stream.request_id)

    def _fail(self, stream: Stream, error: NemotronError) -> None:
        self.tally.failed(error)
        try:
            stream.reply.fail(error)
        except Exception:
            log.exception("a client could not be told that its request failed: %s", error)
        self._end(stream)

    def _end(self, stream: Stream) -> None:
        stream.ended = True
        self._streams.discard(stream)
        if stream.request_id is not None:
            self.engine.abort(stream.request_id)


def _named(error: Exception) -> NemotronError:
    """`error` itself when it is one of ours; else one that keeps internals from the client."""
    if isinstance(error, NemotronError):
        return error
    log.error("a request failed", exc_info=error)
    return RequestError("internal error; the server's log says more")
