"""Replicas follow what the replicas say."""

import pytest

from nemotron_api import names
from nemotron_operator.objects import DEPLOYMENT, ND
from tests.integration.operator_world import World

pytestmark = pytest.mark.integration
pytest_plugins = ("tests.integration.operator_fixtures",)


def replicas(world: World) -> int:
    (workload,) = world.api.list(DEPLOYMENT, world.namespace)
    return int(workload["spec"]["replicas"])


def test_load_adds_replicas_and_silence_takes_them_away(world: World) -> None:
    world.deploy(scaling={"min": 1, "max": 3, "stabilization": "3s"})
    world.until_ready()
    world.node.waiting = 9
    world.until(lambda: replicas(world) == 3, "as many as allowed")
    world.until(lambda: world.status()["routableReplicas"] == 3)
    world.until_condition("True/AtMax", names.SCALING_ACTIVE)
    world.node.waiting = 0
    world.until(lambda: replicas(world) == 1, "as few as allowed")
    world.until(lambda: len(world.servers()) == 1)
    assert world.condition() == "True/Serving"
    assert world.api.get(ND, world.namespace, "nano")["spec"]["replicas"] == 1, "the operator never writes its own spec"


def test_without_metrics_the_number_is_held(world: World) -> None:
    world.deploy(scaling={"min": 1, "max": 3, "stabilization": "1s"})
    world.until_ready()
    world.node.waiting = 9
    world.until(lambda: replicas(world) == 3)
    world.node.tells_metrics = False
    world.node.waiting = 0
    world.until_condition("False/MetricsMissing", names.SCALING_ACTIVE)
    assert replicas(world) == 3
    world.node.tells_metrics = True
    world.until(lambda: replicas(world) == 1)


def test_moving_the_bounds_moves_the_replicas(world: World) -> None:
    world.deploy(scaling={"min": 2, "max": 4})
    world.until_ready()
    assert replicas(world) == 2
    world.change({"scaling": {"min": 3}})
    world.until(lambda: replicas(world) == 3)
    world.change({"scaling": {"min": 1, "max": 2}})
    world.until(lambda: replicas(world) == 2)


def test_from_scaling_to_replicas_and_back(world: World) -> None:
    world.deploy(scaling={"min": 2, "max": 4})
    world.until_ready()
    world.change({"scaling": None, "replicas": 1})
    world.until(lambda: replicas(world) == 1)
    world.until_condition("", names.SCALING_ACTIVE)
    assert world.condition() in ("", "True/Serving")
    world.change({"scaling": {"min": 2, "max": 2}})
    world.until(lambda: replicas(world) == 2)
    world.until_ready()
