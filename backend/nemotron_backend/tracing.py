"""Describe each finished request as one span of its caller's trace."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from nemotron_backend.stream import Stream

NANOSECONDS: Final = 1_000_000_000
CLOSE_SECONDS: Final = 3.0
Attribute = str | int | float | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """One request. `parent` are the W3C headers it came with; it began `seconds` ago and ends now."""

    parent: Mapping[str, str]
    seconds: float
    failed: bool
    attributes: Mapping[str, Attribute]


class Tracer(Protocol):
    """Where spans go; safe from any thread, and no call waits for the network but `close`, for some seconds."""

    def record(self, span: Span) -> None: ...

    def close(self) -> None: ...


class _Nobody:
    def record(self, span: Span) -> None:
        """Nobody wants to know."""

    def close(self) -> None:
        """Nothing is open."""


NOBODY: Final[Tracer] = _Nobody()


def span_of(stream: Stream, now: float, why: str) -> Span:
    """The span of a stream that ended at `now` for the reason `why`: a finish reason, or an error's."""
    wishes = stream.wishes
    headers = {"traceparent": wishes.traceparent, "tracestate": wishes.tracestate}
    # Names of OpenTelemetry's conventions for generative AI, and of vLLM where those have none.
    attributes: dict[str, Attribute] = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.usage.input_tokens": stream.prompt_tokens,
        "gen_ai.usage.output_tokens": stream.tokens,
        "gen_ai.response.finish_reasons": tuple(part.answer.finish_reason or why for part in stream.parts) or (why,),
    }
    if stream.first_token_at is not None:
        attributes["gen_ai.latency.time_to_first_token"] = stream.first_token_at - stream.admitted_at
    failed = not stream.is_done
    parent = {name: value for name, value in headers.items() if value}
    return Span(parent, now - stream.admitted_at, failed, attributes)


def otlp(url: str, model: str, ratio: float) -> Tracer:
    """Sends spans to the OTLP/HTTP receiver at `url`; of requests that bring no trace, the share `ratio`."""
    return _Otlp(url, model, ratio)


class _Otlp:
    def __init__(self, url: str, model: str, ratio: float) -> None:
        # Imported here alone: most replicas trace nothing, and the libraries take a fifth of a second to load.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace import SpanKind, Status, StatusCode
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        sampler = ParentBased(TraceIdRatioBased(ratio))
        self._provider = TracerProvider(sampler, Resource.create({"service.name": f"nemotron-{model}"}))
        exporter = OTLPSpanExporter(endpoint=url, timeout=CLOSE_SECONDS)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1000))
        self._tracer = self._provider.get_tracer("nemotron_backend")
        self._propagator = TraceContextTextMapPropagator()
        self._kind = SpanKind.SERVER
        self._error = Status(StatusCode.ERROR)
        self._model = model

    def record(self, span: Span) -> None:
        now = time.time_ns()
        started = self._tracer.start_span(
            f"generate {self._model}",
            self._propagator.extract(dict(span.parent)),
            self._kind,
            {"gen_ai.request.model": self._model, **span.attributes},
            start_time=now - int(span.seconds * NANOSECONDS),
        )
        if span.failed:
            started.set_status(self._error)
        started.end(now)

    def close(self) -> None:
        # In a thread: a receiver that is gone is tried again for longer than a server waits for its model to end.
        closing = threading.Thread(target=self._provider.shutdown, name="tracer", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
