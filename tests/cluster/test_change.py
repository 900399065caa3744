"""Planned changes under load refuse nothing and cut nothing; what is not ours is left alone."""

import json
import time

import pytest

from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.release import CHART
from tests.cluster.installed import Installed
from tests.cluster.kit import Kube, Traffic, a_deployment, traffic, wait_for
from tests.cluster.live import LiveCluster

pytestmark = pytest.mark.cluster


def unharmed(flowing: Traffic, at_least: int = 5) -> None:
    assert flowing.outcome.failures == []
    assert flowing.outcome.completed >= at_least


def revision(kube: Kube, name: str) -> str:
    return str(kube.get("nd", name)["status"].get("revision", ""))


def pods_of(kube: Kube, name: str) -> list[dict[str, object]]:
    return kube.items("pod", f"serving.nemotron.dev/name={name}")


def test_a_new_revision_under_load_refuses_no_request(kube: Kube) -> None:
    kube.apply(a_deployment("rolling"))
    kube.wait_ready("rolling")
    old = revision(kube, "rolling")

    with traffic(kube.namespace, "rolling", clients=3, tokens=100, retries=0) as flowing:
        wait_for(lambda: flowing.outcome.completed > 3, 60)
        kube.apply(a_deployment("rolling", runtime={"env": [{"name": "COLOUR", "value": "blue"}]}))
        kube.wait_ready("rolling")
        wait_for(lambda: len(pods_of(kube, "rolling")) == 1, 120)
        done = flowing.outcome.completed
        wait_for(lambda: flowing.outcome.completed > done + 3, 60)

    unharmed(flowing)
    assert revision(kube, "rolling") != old
    assert len(kube.items("deploy")) == 1
    assert len(kube.items("controllerrevision")) == 1


def test_an_operator_killed_in_the_middle_of_a_rollout_harms_no_client(kube: Kube, operator: Installed) -> None:
    kube.apply(a_deployment("bumpy"))
    kube.wait_ready("bumpy")

    with traffic(kube.namespace, "bumpy", clients=2, tokens=100, retries=0) as flowing:
        kube.apply(a_deployment("bumpy", runtime={"env": [{"name": "COLOUR", "value": "green"}]}))
        wait_for(lambda: len(kube.items("deploy")) == 2, 60)
        operator.kill()
        kube.wait_ready("bumpy")
        wait_for(lambda: len(kube.items("deploy")) == 1, 60)

    unharmed(flowing)


def test_draining_a_node_under_load_cuts_nothing(kube: Kube, cluster: LiveCluster) -> None:
    kube.apply(a_deployment("spread", replicas=2))
    kube.wait_ready("spread")
    where = {pod["spec"]["nodeName"] for pod in pods_of(kube, "spread")}  # type: ignore[index]
    assert where == set(cluster.nodes)

    with traffic(kube.namespace, "spread", clients=3, tokens=100, retries=0) as flowing:
        try:
            drain = ("drain", "node2", "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=150s")
            kube.run(*drain, "--pod-selector=serving.nemotron.dev/name=spread")
            wait_for(lambda: kube.get("nd", "spread")["status"]["routableReplicas"] == 2, 120)
        finally:
            kube.run("uncordon", "node2")

    unharmed(flowing)


def test_a_users_service_of_the_same_name_is_left_untouched(kube: Kube) -> None:
    kube.run("create", "service", "clusterip", "mine", "--tcp=80:80")
    before = kube.get("service", "mine")

    kube.apply(a_deployment("mine"))

    wait_for(lambda: kube.conditions("mine").get("Accepted", {}).get("reason") == "NameTaken", 60)
    assert kube.get("service", "mine") == before
    assert not kube.items("deploy")
    assert not kube.items("na")


def test_uninstalling_and_installing_under_another_name_touches_no_pod(kube: Kube, operator: Installed) -> None:
    kube.apply(a_deployment("steady"))
    kube.wait_ready("steady")
    before = fixed(kube)

    operator.uninstall()
    time.sleep(2)
    operator.install("another-name")
    kube.run("annotate", "nd", "steady", "example.com/wake=up")
    time.sleep(5)

    assert fixed(kube) == before
    kube.run("scale", "nd/steady", "--replicas=0")
    wait_for(lambda: not pods_of(kube, "steady"), 120)


def fixed(kube: Kube) -> str:
    """Serving pods with everything a restart or a roll would change."""
    return json.dumps([(p["metadata"]["uid"], p["status"]["containerStatuses"]) for p in pods_of(kube, "steady")])  # type: ignore[index]


def test_helm_test_passes(operator: Installed) -> None:
    assert "Succeeded" in operator.kubectl.helm("test", operator.name, "--logs")


def test_the_chart_refuses_unknown_values(operator: Installed) -> None:
    with pytest.raises(ClusterError, match="colour"):
        operator.kubectl.helm("template", str(CHART), "--set", "colour=red")
