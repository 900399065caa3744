"""Replicas follow the load, or the user, or an autoscaler; no stream is cut on the way."""

import pytest
import yaml

from tests.cluster.kit import Kube, a_deployment, traffic, wait_for

pytestmark = pytest.mark.cluster


def replicas(kube: Kube, name: str) -> int:
    return int(kube.get("nd", name)["status"].get("routableReplicas", 0))


def test_load_brings_replicas_and_silence_takes_them_away_without_cutting_a_stream(kube: Kube) -> None:
    kube.apply(a_deployment("elastic", scaling={"min": 1, "max": 2, "stabilization": "10s"}))
    kube.wait_ready("elastic")
    assert replicas(kube, "elastic") == 1

    with traffic(kube.namespace, "elastic", clients=8, tokens=200, retries=0) as busy:
        wait_for(lambda: replicas(kube, "elastic") == 2, 180, lambda: kube.story("elastic"))
    with traffic(kube.namespace, "elastic", clients=1, tokens=50, retries=0) as quiet:
        wait_for(lambda: replicas(kube, "elastic") == 1, 180, lambda: kube.story("elastic"))
        served = quiet.outcome.completed
        wait_for(lambda: quiet.outcome.completed > served + 3, 60)
        wait_for(lambda: len(kube.items("pod", "serving.nemotron.dev/name=elastic")) == 1, 120)

    assert busy.outcome.failures == []
    assert quiet.outcome.failures == []
    assert busy.outcome.completed > 0
    assert kube.conditions("elastic")["Ready"]["status"] == "True"


def test_kubectl_scale_and_an_hpa_set_the_number_of_replicas(kube: Kube) -> None:
    kube.apply(a_deployment("manual"))
    kube.wait_ready("manual")
    transition = kube.conditions("manual")["Ready"]["lastTransitionTime"]

    kube.run("scale", "nd/manual", "--replicas=2")
    wait_for(lambda: replicas(kube, "manual") == 2, 120, lambda: kube.story("manual"))
    assert kube.conditions("manual")["Ready"]["lastTransitionTime"] == transition, "it never left Ready"

    kube.run("scale", "nd/manual", "--replicas=1")
    wait_for(lambda: replicas(kube, "manual") == 1, 120, lambda: kube.story("manual"))

    kube.apply(yaml.safe_load(HPA))
    wait_for(lambda: kube.get("nd", "manual")["spec"]["replicas"] == 2, 180, lambda: kube.run("describe", "hpa"))
    wait_for(lambda: replicas(kube, "manual") == 2, 120, lambda: kube.story("manual"))


HPA = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: manual}
spec:
  scaleTargetRef: {apiVersion: serving.nemotron.dev/v1alpha1, kind: NemotronDeployment, name: manual}
  minReplicas: 2
  maxReplicas: 3
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 500}}}]
"""
