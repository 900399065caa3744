"""Carry requests between clients and the engine; everything Triton stays outside."""

import logging
import queue
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from nemotron_api.errors import Cancelled, NemotronError, Overloaded, RequestError, ShuttingDown
from nemotron_backend import admission, tracing
from nemotron_backend.answer import Answer
from nemotron_backend.codes import named
from nemotron_backend.request import GenerationRequest
from nemotron_backend.stream import Call, Part, Reply, Stream
from nemotron_backend.tally import Tally
from nemotron_backend.thread import start
from nemotron_backend.vocabulary import Vocabulary, settle
from nemotron_runtime import Engine, SamplingParams, Terms, TokenEvent

log = logging.getLogger(__name__)

TOKENS_PER_CHECK: Final = 16
"""Asking whether a client went away is a call into the server's process, so not every token asks."""


class Tokenizer(Protocol):
    """What the service needs of a tokenizer."""

    def encode(self, text: str, limit: int) -> list[int]: ...

    def decode(self, ids: Sequence[int]) -> str: ...

    @property
    def vocabulary(self) -> Vocabulary: ...


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
        *,
        client_limit: int | None = None,
        tracer: tracing.Tracer = tracing.NOBODY,
    ) -> None:
        self.engine = engine
        self.tally = Tally()
        self.is_refusing = is_refusing
        self.has_failed = False
        """Whether the engine is beyond help: another process must be started."""
        self._tokenizer = tokenizer
        self._max_sequence_tokens = max_sequence_tokens
        self._clock = clock
        self._client_limit = client_limit
        self._tracer = tracer
        self._pace = admission.Pace()
        self._streams: set[Stream] = set()
        self._ready: queue.SimpleQueue[Stream | None] = queue.SimpleQueue()
        self._sending_since: float | None = None
        self._sender = start("sender", self._send_all)

    @property
    def active(self) -> int:
        """Requests whose last response is still to be sent."""
        return len(self._streams)

    @property
    def tokenless(self) -> int:
        """Answers that wait for their first token, in the engine's queue or while their prompt is read."""
        return sum(part.is_tokenless for stream in list(self._streams) for part in stream.parts)

    @property
    def stall_seconds(self) -> float:
        """Since the engine's loop or the sender last turned: small in a healthy process, idle or not."""
        since = self._sending_since
        return max(self.engine.heartbeat(), 0.0 if since is None else self._clock() - since)

    def admit(self, read: Callable[[], Call], reply: Reply) -> None:
        """Take a request in, or answer it with what is wrong; raises nothing."""
        stream = Stream(reply, self._clock())
        # First counted, then asked: when the launcher reads "refusing, none active", nobody is between the two.
        self._streams.add(stream)
        self.tally.admitted()
        try:
            if self.is_refusing():
                raise ShuttingDown("this replica is shutting down: send the request again, another one serves it")
            self._submit(stream, read())
        except Exception as error:  # noqa: BLE001  whatever it is, the client must get its last response
            self._fail(stream, named(error))

    def sweep(self) -> None:
        """Abort what nobody waits for any more."""
        for stream in list(self._streams):
            if not stream.request_ids or stream.cause is not None:
                continue
            if stream.is_late(self._clock()):
                self._abort(stream, stream.lateness)
            else:
                self._abort_if_cancelled(stream)

    def close(self) -> None:
        """End the engine and the sender; requests still active are told."""
        self.engine.close()
        self._ready.put(None)
        self._sender.join()
        self._tracer.close()

    def _submit(self, stream: Stream, call: Call) -> None:
        stream.wishes = wishes = call.wishes
        request = call.read()
        # This stream has no parts yet, so it is not among them.
        clients = [other.wishes.client for other in list(self._streams) for _ in other.parts]
        if refused := admission.refusal(self._client_limit, wishes.client, clients, request.answers):
            raise refused
        samplings = settle(request, self._tokenizer.vocabulary)
        prompt = request.prompt
        ids = self._tokenizer.encode(prompt, self._max_sequence_tokens) if isinstance(prompt, str) else list(prompt)
        stream.prompt_tokens = len(ids)
        stream.streams = request.stream
        # All of them before the first is submitted: its tokens may come at once.
        stream.parts = tuple(
            Part(Answer(request, len(ids), self._tokenizer.decode, index)) for index in range(request.answers)
        )
        for part, sampling in zip(stream.parts, samplings, strict=True):
            self._submit_part(stream, part, ids, request, sampling)

    def _submit_part(
        self, stream: Stream, part: Part, ids: Sequence[int], request: GenerationRequest, sampling: SamplingParams
    ) -> None:
        wishes = stream.wishes
        terms = Terms(wishes.client, wishes.priority, stream.deadline, wishes.salt)
        receive = partial(self._receive, stream, part)
        try:
            part.request_id = self.engine.submit(ids, sampling, receive, resumed=request.resumed, terms=terms)
        except RequestError as error:
            # Nothing more special: the engine says so once its step loop has failed, and for ever after.
            self.has_failed = self.has_failed or type(error) is RequestError
            if not isinstance(error, Overloaded):
                raise
            waiting = self.engine.stats().waiting
            raise admission.with_hint(error, self._pace.seconds_for(waiting, self._clock())) from error
        # A stop word, or a client that left, may have ended the answer before its id was known here.
        if stream.ended or stream.cause or part.is_done:
            self.engine.abort(part.request_id)

    def _receive(self, stream: Stream, part: Part, event: TokenEvent) -> None:
        if stream.push(part, event, self._clock()):
            self._ready.put(stream)

    def _send_all(self) -> None:
        while (stream := self._ready.get()) is not None:
            self._sending_since = self._clock()
            try:
                self._deliver(stream)
            except Exception as error:  # noqa: BLE001  one stream's failure must not end the others
                self._fail(stream, named(error))
            self._sending_since = None

    def _deliver(self, stream: Stream) -> None:
        for part, events in stream.take().items():
            # What comes after the end of a stream, or of one answer, is the echo of an abort.
            if not stream.ended and not part.is_done:
                self._advance(stream, part, events)
        if stream.tokens - stream.checked >= TOKENS_PER_CHECK and not stream.ended:
            stream.checked = stream.tokens
            self._abort_if_cancelled(stream)

    def _advance(self, stream: Stream, part: Part, events: Sequence[tuple[TokenEvent, float]]) -> None:
        """Take one answer as far as its events go, and send what is worth it."""
        last, made = events[-1][0], [event for event, _ in events if event.token is not None]
        self._count(stream, part, [at for event, at in events if event.token is not None])
        if last.finish_reason in ("aborted", "error"):
            self._fail(stream, stream.cause_of(last, self._clock()))
            return
        part.answer.tell_prompt(events[0][0].prompt_logprobs)
        part.answer.extend(
            [event.token for event in made if event.token is not None],
            last.finish_reason or "",
            [event.logprobs for event in made if event.logprobs is not None],
        )
        if stream.is_done:
            self._end(stream, partial(stream.reply.send, part.answer.take(), final=True), part.answer.finish_reason)
        elif stream.is_worth_sending(part):
            stream.reply.send(part.answer.take(), final=False)
            part.sent = part.tokens
            if part.is_done and part.request_id is not None:
                self.engine.abort(part.request_id)

    def _count(self, stream: Stream, part: Part, times: Sequence[float]) -> None:
        if not times:
            return
        self.tally.produced(stream.admitted_at, part.last_token_at, times)
        stream.first_token_at = times[0] if stream.first_token_at is None else stream.first_token_at
        part.last_token_at = times[-1]
        part.tokens += len(times)

    def _abort_if_cancelled(self, stream: Stream) -> None:
        if stream.reply.is_cancelled():
            self._abort(stream, Cancelled("the client cancelled the request"))

    def _abort(self, stream: Stream, cause: NemotronError) -> None:
        stream.cause = cause
        self._abort_all(stream)

    def _abort_all(self, stream: Stream) -> None:
        for request_id in stream.request_ids:
            self.engine.abort(request_id)

    def _fail(self, stream: Stream, error: NemotronError) -> None:
        if self._end(stream, partial(stream.reply.fail, error), error.reason):
            self.tally.failed(error)

    def _end(self, stream: Stream, send_last: Callable[[], None], why: str) -> bool:
        """Send the last response, once whoever asks; false when it was sent before."""
        if not stream.claim_end():
            return False
        try:
            send_last()
        except Exception as error:  # noqa: BLE001  whatever it is, the client must get its last response
            self._excuse(stream, error)
        self._streams.discard(stream)
        self._abort_all(stream)
        self._remember(stream, why)
        return True

    def _excuse(self, stream: Stream, error: Exception) -> None:
        """The last response was not sent: try a simpler one, for a client without one waits for ever."""
        try:
            stream.reply.fail(named(error))
        except Exception:
            log.exception("nor could the client be told of it")

    def _remember(self, stream: Stream, why: str) -> None:
        now = self._clock()
        if stream.request_ids:
            # The engine counts answers: so does what is held against its counts.
            for _ in stream.request_ids:
                self._pace.ended(now)
            self.tally.ended(stream.prompt_tokens, [part.tokens for part in stream.parts])
        self._tracer.record(tracing.span_of(stream, now, why))
