"""What the launcher does next, by what it sees."""

from dataclasses import replace

import pytest

from nemotron_api.build import ServingConfig
from nemotron_backend.launcher import limits
from nemotron_backend.run_directory import Pulse
from nemotron_backend.supervise import Action, Decision, Limits, Phase, Sight, State, decide

pytestmark = pytest.mark.unit

LIMITS = Limits(linger_seconds=35, drain_seconds=600, exit_seconds=7)
NOW = 1000.0
SERVING = State(Phase.SERVING, has_served=True)


def a_pulse(age: float = 0.1, stall: float = 0.0, refusing: bool = False, active: int = 3) -> Pulse:
    return Pulse(pid=42, written_at=NOW - age, stall_seconds=stall, refusing=refusing, active=active)


def a_sight(**changed: object) -> Sight:
    return replace(Sight(now=NOW, generated=True, pulse=a_pulse()), **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "sight", "action", "phase"),
    [
        pytest.param(State(), Sight(NOW), Action.WAIT, Phase.STARTING, id="loading"),
        pytest.param(State(), a_sight(generated=False), Action.WAIT, Phase.STARTING, id="loaded-but-no-token-yet"),
        pytest.param(State(), a_sight(), Action.WAIT, Phase.SERVING, id="a-token-came"),
        pytest.param(SERVING, a_sight(), Action.WAIT, Phase.SERVING, id="all-is-well"),
        pytest.param(State(), Sight(NOW, server_exit=1), Action.EXIT, Phase.STARTING, id="cannot-load"),
        pytest.param(SERVING, a_sight(server_exit=-11), Action.RESTART, Phase.STARTING, id="crashed"),
        pytest.param(SERVING, a_sight(stub_alive=False), Action.RESTART, Phase.STARTING, id="stub-died"),
        pytest.param(SERVING, a_sight(pulse=a_pulse(age=15.5)), Action.RESTART, Phase.STARTING, id="stub-frozen"),
        pytest.param(SERVING, a_sight(pulse=a_pulse(stall=61)), Action.RESTART, Phase.STARTING, id="loop-stalled"),
        pytest.param(
            State(), a_sight(generated=False, pulse=a_pulse(stall=61)), Action.WAIT, Phase.STARTING, id="compiling"
        ),
        pytest.param(
            replace(SERVING, restarts=3), a_sight(server_exit=1), Action.EXIT, Phase.SERVING, id="crashed-too-often"
        ),
        pytest.param(
            State(has_served=True, restarts=1),
            Sight(NOW, server_exit=1),
            Action.RESTART,
            Phase.STARTING,
            id="crashed-while-starting-again",
        ),
        pytest.param(State(), Sight(NOW, terminated_at=NOW), Action.STOP, Phase.STOPPING, id="told-to-end-unready"),
        pytest.param(SERVING, a_sight(terminated_at=NOW), Action.WAIT, Phase.LINGERING, id="told-to-end"),
        pytest.param(
            State(Phase.LINGERING, True),
            a_sight(terminated_at=NOW - 34),
            Action.WAIT,
            Phase.LINGERING,
            id="clients-still-come",
        ),
        pytest.param(
            State(Phase.LINGERING, True),
            a_sight(terminated_at=NOW - 35),
            Action.REFUSE,
            Phase.REFUSING,
            id="clients-have-gone",
        ),
        pytest.param(
            State(Phase.REFUSING, True),
            a_sight(terminated_at=NOW - 40, pulse=a_pulse(active=0)),
            Action.WAIT,
            Phase.REFUSING,
            id="idle-before-it-refused",
        ),
        pytest.param(
            State(Phase.REFUSING, True),
            a_sight(terminated_at=NOW - 40, pulse=a_pulse(refusing=True, active=1)),
            Action.WAIT,
            Phase.REFUSING,
            id="one-stream-left",
        ),
        pytest.param(
            State(Phase.REFUSING, True),
            a_sight(terminated_at=NOW - 40, pulse=a_pulse(refusing=True, active=0)),
            Action.STOP,
            Phase.STOPPING,
            id="every-stream-finished",
        ),
        pytest.param(
            State(Phase.REFUSING, True),
            a_sight(terminated_at=NOW - 600),
            Action.STOP,
            Phase.STOPPING,
            id="drain-deadline-passed",
        ),
        pytest.param(
            State(Phase.LINGERING, True),
            a_sight(terminated_at=NOW - 5, stub_alive=False),
            Action.EXIT,
            Phase.LINGERING,
            id="died-while-ending",
        ),
        pytest.param(
            State(Phase.STOPPING, True, stopping_since=NOW - 3),
            a_sight(terminated_at=NOW - 60, stub_alive=False),
            Action.WAIT,
            Phase.STOPPING,
            id="stopping",
        ),
        pytest.param(
            State(Phase.STOPPING, True, stopping_since=NOW - 8),
            a_sight(terminated_at=NOW - 60),
            Action.KILL,
            Phase.STOPPING,
            id="does-not-stop",
        ),
        pytest.param(
            State(Phase.STOPPING, True, stopping_since=NOW - 8),
            a_sight(terminated_at=NOW - 60, server_exit=0),
            Action.EXIT,
            Phase.STOPPING,
            id="stopped",
        ),
    ],
)
def test_the_next_step(state: State, sight: Sight, action: Action, phase: Phase) -> None:
    decision = decide(state, sight, LIMITS)

    assert (decision.action, decision.state.phase) == (action, phase)


def test_every_step_but_waiting_has_a_reason() -> None:
    assert decide(SERVING, a_sight(), LIMITS) == Decision(SERVING)
    assert decide(SERVING, a_sight(server_exit=-11), LIMITS).why == "tritonserver ended with code -11"
    assert decide(SERVING, a_sight(stub_alive=False), LIMITS).why == "the model's process 42 is gone"


def test_restarts_are_counted() -> None:
    state = SERVING

    for restarts in (1, 2, 3):
        state = decide(replace(state, phase=Phase.SERVING), a_sight(server_exit=1), LIMITS).state
        assert state.restarts == restarts
    last = decide(replace(state, phase=Phase.SERVING), a_sight(server_exit=1), LIMITS)

    assert (last.action, last.why) == (Action.EXIT, "tritonserver ended with code 1, after 3 restarts")


@pytest.mark.parametrize(("drain", "age", "linger"), [(600, 30, 35), (40, 30, 20), (2, 1, 1)])
def test_half_of_the_drain_is_left_for_the_streams(drain: int, age: int, linger: float) -> None:
    config = ServingConfig(
        model="tiny", engine="engines/x", manifest_sha256="0" * 64, drain_seconds=drain, connection_age_seconds=age
    )

    assert limits(config).linger_seconds == linger
