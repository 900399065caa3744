"""List the request parameters a client may send: how to serve a request, where tensors say what to generate."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parameter:
    """One named parameter of the KServe protocol; `kind` as on the wire."""

    name: str
    kind: str
    meaning: str


PARAMETERS: tuple[Parameter, ...] = (
    Parameter("client", "string", "who asks: clients get equal shares, and what each has in flight may be bounded"),
    Parameter("request_priority", "int64", "higher goes first; default 0 (the server keeps `priority` to itself)"),
    Parameter("timeout", "int64", "microseconds after which nobody waits for the answer any more"),
    Parameter("stream_interval", "int64", "tokens a response should gather; the first does not wait; default 1"),
    Parameter("salt", "string", "prefixes are shared with requests of the same salt only"),
    Parameter("traceparent", "string", "the W3C trace to continue; over gRPC the header of that name will do"),
    Parameter("tracestate", "string", "its state, likewise"),
)
