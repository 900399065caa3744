"""Decide what the launcher does next."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from nemotron_backend.run_directory import Pulse


class Phase(Enum):
    """Where a replica is in its life; only SERVING is ready."""

    STARTING = "the model is loading"
    SERVING = "serving"
    LINGERING = "shutting down: clients that still find this replica are served"
    REFUSING = "shutting down: new requests are refused, streams are finished"
    STOPPING = "shutting down: the server stops"


LEAVING: Final = (Phase.LINGERING, Phase.REFUSING, Phase.STOPPING)
STARTS: Final = 3
"""How many times longer than the first one a later start may take."""


class Action(Enum):
    """What the launcher does now; STOP asks the server, KILL does not."""

    WAIT = auto()
    RESTART = auto()
    REFUSE = auto()
    STOP = auto()
    KILL = auto()
    EXIT = auto()


@dataclass(frozen=True, slots=True)
class Limits:
    """`linger_seconds` of `drain_seconds` still admit; times count from the moment the replica began to leave."""

    linger_seconds: float
    drain_seconds: float
    exit_seconds: float
    pulse_seconds: float = 15.0
    stall_seconds: float = 60.0
    start_seconds: float = 120.0
    restarts: int = 3


@dataclass(frozen=True, slots=True)
class Sight:
    """What the launcher sees at `now`."""

    now: float
    terminated_at: float | None = None
    server_exit: int | None = None
    stub_alive: bool = True
    generated: bool = False
    """A token came through the server's own port since the server was started."""
    pulse: Pulse | None = None
    outdated: bool = False
    """The server runs with certificates that were replaced."""


@dataclass(frozen=True, slots=True)
class State:
    """Where the replica is; times are seconds of the monotonic clock."""

    phase: Phase = Phase.STARTING
    has_served: bool = False
    restarts: int = 0
    started_at: float = 0.0
    first_start_seconds: float = 0.0
    leaving_since: float = 0.0
    stopping_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    state: State
    action: Action = Action.WAIT
    why: str = ""


Rule = Callable[[State, Sight, Limits], Decision | None]


def decide(state: State, sight: Sight, limits: Limits) -> Decision:
    """The first rule that applies."""
    decisions = (rule(state, sight, limits) for rule in RULES)
    return next(filter(None, decisions), Decision(state))


def _server_ended(state: State, sight: Sight, limits: Limits) -> Decision | None:
    if sight.server_exit is None:
        return None
    if state.phase is not Phase.STOPPING:
        return _failed(state, sight, limits, f"tritonserver ended with code {sight.server_exit}")
    if sight.terminated_at is None:
        return Decision(_started(state, sight), Action.RESTART, "the server has stopped, to start with what is new")
    return Decision(state, Action.EXIT, "the server has stopped")


def _stopping_takes_too_long(state: State, sight: Sight, limits: Limits) -> Decision | None:
    if state.phase is not Phase.STOPPING:
        return None
    overdue = sight.now - state.stopping_since > limits.exit_seconds
    return Decision(state, Action.KILL, "the server did not stop in time") if overdue else Decision(state)


def _stub_failed(state: State, sight: Sight, limits: Limits) -> Decision | None:
    symptom = _symptom(state, sight, limits)
    return _failed(state, sight, limits, symptom) if symptom else None


def _leaves(state: State, sight: Sight, limits: Limits) -> Decision | None:
    """Begin to leave: for ever, or to come back with new certificates."""
    terminated = sight.terminated_at is not None
    if state.phase is Phase.STARTING and terminated:
        return _stop(state, sight, "terminated while nothing was served")
    if state.phase is not Phase.SERVING or not (terminated or sight.outdated):
        return None
    since = sight.now if sight.terminated_at is None else sight.terminated_at
    why = "terminated" if terminated else "the certificate was replaced"
    return Decision(replace(state, phase=Phase.LINGERING, leaving_since=since), why=why)


def _drains(state: State, sight: Sight, limits: Limits) -> Decision | None:
    elapsed = sight.now - state.leaving_since
    if state.phase is Phase.LINGERING and elapsed >= limits.linger_seconds:
        return Decision(replace(state, phase=Phase.REFUSING), Action.REFUSE, "clients have had time to turn away")
    if state.phase is Phase.REFUSING:
        if sight.pulse and sight.pulse.refusing and not sight.pulse.active:
            return _stop(state, sight, "every request is answered")
        if elapsed >= limits.drain_seconds:
            active = sight.pulse.active if sight.pulse else 0
            return _stop(state, sight, f"the drain deadline passed with {active} requests active")
    return None


def _became_ready(state: State, sight: Sight, limits: Limits) -> Decision | None:
    if state.phase is not Phase.STARTING or not sight.generated:
        return None
    first = state.first_start_seconds if state.has_served else sight.now - state.started_at
    ready = replace(state, phase=Phase.SERVING, has_served=True, first_start_seconds=first)
    return Decision(ready, why="a token came through the own port")


def _start_takes_too_long(state: State, sight: Sight, limits: Limits) -> Decision | None:
    """Only later starts: how long the first may take, the pod's startup probe knows."""
    if state.phase is not Phase.STARTING or not state.has_served:
        return None
    allowed = max(limits.start_seconds, STARTS * state.first_start_seconds)
    if sight.now - state.started_at <= allowed:
        return None
    return _failed(state, sight, limits, f"the server, started again, gave no token within {allowed:.0f} s")


RULES: Final[tuple[Rule, ...]] = (
    _server_ended,
    _stopping_takes_too_long,
    _stub_failed,
    _leaves,
    _drains,
    _became_ready,
    _start_takes_too_long,
)


def _symptom(state: State, sight: Sight, limits: Limits) -> str | None:
    """What is wrong with the model's process; a stub's death is invisible in Triton's own health."""
    pulse = sight.pulse
    if pulse is None:
        return None
    if not sight.stub_alive:
        return f"the model's process {pulse.pid} is gone"
    if (age := sight.now - pulse.written_at) > limits.pulse_seconds:
        return f"the model's process {pulse.pid} gave no sign of life for {age:.0f} s"
    if pulse.failed:
        return "the engine's step loop has failed"
    # The first steps may compile for minutes.
    if state.phase is not Phase.STARTING and pulse.stall_seconds > limits.stall_seconds:
        return f"the engine or the sender has not turned for {pulse.stall_seconds:.0f} s"
    return None


def _failed(state: State, sight: Sight, limits: Limits, why: str) -> Decision:
    """Start again, unless that cannot help."""
    if not state.has_served:
        return Decision(state, Action.EXIT, f"{why} before it had served: the log above says why")
    if state.phase in LEAVING and sight.terminated_at is not None:
        return Decision(state, Action.EXIT, f"{why} while shutting down")
    if state.restarts >= limits.restarts:
        return Decision(state, Action.EXIT, f"{why}, after {state.restarts} restarts")
    return Decision(replace(_started(state, sight), restarts=state.restarts + 1), Action.RESTART, why)


def _started(state: State, sight: Sight) -> State:
    return replace(state, phase=Phase.STARTING, started_at=sight.now)


def _stop(state: State, sight: Sight, why: str) -> Decision:
    return Decision(replace(state, phase=Phase.STOPPING, stopping_since=sight.now), Action.STOP, why)
