"""Read how a request wants to be treated out of its parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nemotron_api.errors import InvalidRequest

MICROSECONDS: Final = 1_000_000
LONGEST: Final = 256
"""Characters a name or a salt may have."""
SHORT_TEXT: Final = f"a text of at most {LONGEST} whole characters"
LONGEST_TIMEOUT: Final = 1 << 63
LONGEST_STATE: Final = 512
"""A trace state that is longer may be dropped, as W3C's Trace Context has it; a request may not for that."""
HIGHEST_PRIORITY: Final = 1000


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a request asks for beside its answer; tensors say what to generate, parameters say how to serve it."""

    client: str = ""
    priority: int = 0
    salt: str = ""
    stream_interval: int = 1
    """Tokens a response should gather; the first token does not wait."""
    timeout_seconds: float | None = None
    traceparent: str = ""
    tracestate: str = ""


DEFAULTS: Final = Wishes()


@dataclass(frozen=True, slots=True)
class Rule:
    """One parameter: the wish it becomes, and what it must be."""

    field: str
    kind: type
    holds: Callable[[Any], bool]
    demand: str
    convert: Callable[[Any], Any] = lambda value: value


def _is_whole(text: str) -> bool:
    """Whether UTF-8 can spell it: JSON can spell half a surrogate pair, of which no bytes can be made."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _short(text: str) -> bool:
    return len(text) <= LONGEST and _is_whole(text)


RULES: Final[Mapping[str, Rule]] = {
    "client": Rule("client", str, _short, SHORT_TEXT),
    # Not "priority": over gRPC the server keeps that name to itself and shows it to no model.
    "request_priority": Rule(
        "priority",
        int,
        lambda value: abs(value) <= HIGHEST_PRIORITY,
        f"a whole number from -{HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}; higher goes first",
    ),
    "salt": Rule("salt", str, _short, SHORT_TEXT),
    "stream_interval": Rule("stream_interval", int, lambda value: value >= 1, "a whole number, 1 or more"),
    # Over gRPC the server reads it itself; in the JSON of `generate` it comes as any other parameter.
    "timeout": Rule(
        "timeout_seconds",
        int,
        lambda value: 0 <= value < LONGEST_TIMEOUT,
        "microseconds, 0 for no limit",
        lambda value: value / MICROSECONDS or None,
    ),
    "traceparent": Rule("traceparent", str, _short, SHORT_TEXT),
    "tracestate": Rule(
        "tracestate",
        str,
        lambda text: True,
        "a W3C trace state",
        lambda text: text if len(text) <= LONGEST_STATE and _is_whole(text) else "",
    ),
}


def take(parameters: Mapping[str, object]) -> tuple[Wishes, dict[str, object]]:
    """The wishes among `parameters`, and the parameters that are none. Raises InvalidRequest with what to change."""
    fields = {RULES[name].field: _read(name, value) for name, value in parameters.items() if name in RULES}
    return Wishes(**fields), {name: value for name, value in parameters.items() if name not in RULES}


def _read(name: str, value: object) -> Any:
    rule = RULES[name]
    # A bool is an int to Python, not to a client.
    if type(value) is not rule.kind or not rule.holds(value):
        raise InvalidRequest(f"the parameter {name} must be {rule.demand}; it is {value!r:.80}")
    return rule.convert(value)
