"""What the launcher does next, by what it sees."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api.build import ServingConfig
from nemotron_backend.launcher import limits
from nemotron_backend.run_directory import Pulse
from nemotron_backend.supervise import LEAVING, Action, Decision, Limits, Phase, Sight, State, decide

pytestmark = pytest.mark.unit

LIMITS = Limits(linger_seconds=35, drain_seconds=600, exit_seconds=7)
NOW = 1000.0
SERVING = State(Phase.SERVING, has_served=True)
AGAIN = State(has_served=True, restarts=1, started_at=NOW - 100, first_start_seconds=30)
LINGERING = State(Phase.LINGERING, True, leaving_since=NOW - 5)


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
        pytest.param(
            SERVING, a_sight(pulse=replace(a_pulse(), failed=True)), Action.RESTART, Phase.STARTING, id="engine-failed"
        ),
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
            State(Phase.LINGERING, True, leaving_since=NOW - 34),
            a_sight(terminated_at=NOW - 34),
            Action.WAIT,
            Phase.LINGERING,
            id="clients-still-come",
        ),
        pytest.param(
            State(Phase.LINGERING, True, leaving_since=NOW - 35),
            a_sight(terminated_at=NOW - 35),
            Action.REFUSE,
            Phase.REFUSING,
            id="clients-have-gone",
        ),
        pytest.param(
            State(Phase.REFUSING, True, leaving_since=NOW - 40),
            a_sight(terminated_at=NOW - 40, pulse=a_pulse(active=0)),
            Action.WAIT,
            Phase.REFUSING,
            id="idle-before-it-refused",
        ),
        pytest.param(
            State(Phase.REFUSING, True, leaving_since=NOW - 40),
            a_sight(terminated_at=NOW - 40, pulse=a_pulse(refusing=True, active=1)),
            Action.WAIT,
            Phase.REFUSING,
            id="one-stream-left",
        ),
        pytest.param(
            State(Phase.REFUSING, True, leaving_since=NOW - 40),
            a_sight(terminated_at=NOW - 40, pulse=a_pulse(refusing=True, active=0)),
            Action.STOP,
            Phase.STOPPING,
            id="every-stream-finished",
        ),
        pytest.param(
            State(Phase.REFUSING, True, leaving_since=NOW - 600),
            a_sight(terminated_at=NOW - 600),
            Action.STOP,
            Phase.STOPPING,
            id="drain-deadline-passed",
        ),
        pytest.param(
            State(Phase.LINGERING, True, leaving_since=NOW - 5),
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
        pytest.param(AGAIN, Sight(NOW), Action.WAIT, Phase.STARTING, id="starts-again"),
        pytest.param(
            replace(AGAIN, started_at=NOW - 121), Sight(NOW), Action.RESTART, Phase.STARTING, id="hangs-as-it-starts"
        ),
        pytest.param(
            replace(AGAIN, started_at=NOW - 179, first_start_seconds=60),
            Sight(NOW),
            Action.WAIT,
            Phase.STARTING,
            id="a-large-model-may-take-longer",
        ),
        pytest.param(
            replace(AGAIN, started_at=NOW - 181, first_start_seconds=60, restarts=3),
            Sight(NOW),
            Action.EXIT,
            Phase.STARTING,
            id="hangs-once-too-often",
        ),
        pytest.param(
            State(started_at=NOW - 9999), Sight(NOW), Action.WAIT, Phase.STARTING, id="the-first-start-is-the-kubelets"
        ),
        pytest.param(SERVING, a_sight(outdated=True), Action.WAIT, Phase.LINGERING, id="certificate-replaced"),
        pytest.param(State(), a_sight(outdated=True), Action.WAIT, Phase.SERVING, id="replaced-while-starting"),
        pytest.param(LINGERING, a_sight(outdated=True), Action.WAIT, Phase.LINGERING, id="replaced-clients-still-come"),
        pytest.param(
            State(Phase.STOPPING, True, stopping_since=NOW - 1),
            a_sight(outdated=True, server_exit=0),
            Action.RESTART,
            Phase.STARTING,
            id="replaced-and-stopped",
        ),
        pytest.param(
            State(Phase.STOPPING, True, stopping_since=NOW - 1),
            a_sight(outdated=True, server_exit=0, terminated_at=NOW),
            Action.EXIT,
            Phase.STOPPING,
            id="terminated-while-the-certificate-is-replaced",
        ),
        pytest.param(
            LINGERING,
            a_sight(outdated=True, stub_alive=False),
            Action.RESTART,
            Phase.STARTING,
            id="died-while-the-certificate-is-replaced",
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


def test_new_certificates_cost_no_restart_and_no_new_measurement() -> None:
    stopping = State(Phase.STOPPING, True, restarts=2, first_start_seconds=7, stopping_since=NOW)

    state = decide(stopping, a_sight(server_exit=0), LIMITS).state

    assert state == replace(stopping, phase=Phase.STARTING, started_at=NOW)
    assert decide(state, a_sight(now=NOW + 50), LIMITS).state.first_start_seconds == 7


def test_the_first_start_is_measured() -> None:
    assert decide(State(started_at=NOW - 12), a_sight(), LIMITS).state.first_start_seconds == 12


MOMENTS = st.one_of(st.none(), st.floats(NOW - 1000, NOW))
STATES = st.builds(
    State,
    st.sampled_from(Phase),
    st.just(True),
    st.integers(0, 3),
    started_at=st.floats(NOW - 1000, NOW),
    leaving_since=st.floats(NOW - 1000, NOW),
    stopping_since=st.floats(NOW - 1000, NOW),
)
PULSES = st.builds(a_pulse, st.floats(0, 30), st.floats(0, 90), st.booleans(), st.integers(0, 3))
SIGHTS = st.builds(
    Sight,
    st.just(NOW),
    MOMENTS,
    st.one_of(st.none(), st.integers(-11, 1)),
    st.booleans(),
    st.booleans(),
    st.one_of(st.none(), PULSES),
    st.booleans(),
)


@given(STATES, SIGHTS)
def test_a_replica_told_to_end_never_starts_again(state: State, sight: Sight) -> None:
    sight = replace(sight, terminated_at=NOW - 1)
    decision = decide(state, sight, LIMITS)

    if state.phase in LEAVING:
        assert decision.action is not Action.RESTART
        assert decision.state.phase in LEAVING


@given(STATES, SIGHTS)
def test_a_server_is_only_stopped_when_drained_or_out_of_time(state: State, sight: Sight) -> None:
    decision = decide(state, sight, LIMITS)

    if decision.action is Action.STOP and state.phase is Phase.REFUSING:
        drained = sight.pulse is not None and sight.pulse.refusing and sight.pulse.active == 0
        assert drained or NOW - state.leaving_since >= LIMITS.drain_seconds


@pytest.mark.parametrize(("drain", "age", "linger"), [(600, 30, 35), (40, 30, 20), (2, 1, 1)])
def test_half_of_the_drain_is_left_for_the_streams(drain: int, age: int, linger: float) -> None:
    config = ServingConfig(
        model="tiny", engine="engines/x", manifest_sha256="0" * 64, drain_seconds=drain, connection_age_seconds=age
    )

    assert limits(config).linger_seconds == linger


def test_a_start_may_be_given_other_limits() -> None:
    config = ServingConfig(model="tiny", engine="engines/x", manifest_sha256="0" * 64, start_seconds=900)

    assert limits(config).start_seconds == 900
