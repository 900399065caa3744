"""The local cluster is a real one: nodes, pods, names, Services, GPUs, volumes, metrics."""

import json
import subprocess
from typing import Any

import pytest
import yaml

from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.gpu import RESOURCE
from nemotron_devcluster.home import CLONE
from nemotron_devcluster.progress import wait_until
from tests.cluster.conftest import GPUS_PER_NODE
from tests.cluster.live import LiveCluster

pytestmark = pytest.mark.cluster

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
FETCH = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"


def a_pod(name: str, image: str, *command: str, node: str | None = None, gpus: int = 0) -> dict[str, Any]:
    limits = {RESOURCE: str(gpus)} if gpus else {}
    container = {"name": "main", "image": image, "command": list(command), "securityContext": RESTRICTED}
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": [{**container, "resources": {"limits": limits}}],
        **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def apply(cluster: LiveCluster, namespace: str, *manifests: dict[str, Any]) -> None:
    cluster.kubectl("apply", "-f", "-", namespace=namespace, text=yaml.safe_dump_all(manifests))


def output_of(cluster: LiveCluster, namespace: str, *command: str) -> str:
    """What a pod with the operator's image prints until it ends."""
    apply(cluster, namespace, a_pod("asks", cluster.images.operator, *command))
    cluster.kubectl(
        "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/asks", "--timeout=60s", namespace=namespace
    )
    return cluster.kubectl("logs", "asks", namespace=namespace)


def serve_a_page(cluster: LiveCluster, namespace: str, node: str) -> None:
    """A pod `web` on this node, and a Service of its name."""
    serve = ("sh", "-c", "cd /tmp && hostname > /tmp/page; exec python3 -m http.server 8080")
    pod = a_pod("web", cluster.images.operator, *serve, node=node)
    pod["spec"]["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}]
    ports = [{"port": 80, "targetPort": 8080}]
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}}
    apply(cluster, namespace, pod, {"apiVersion": "v1", "kind": "Service", **service})
    cluster.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=60s", namespace=namespace)


def test_both_nodes_are_ready(cluster: LiveCluster) -> None:
    nodes = cluster.get("nodes")["items"]

    assert [node["metadata"]["name"] for node in nodes] == ["node1", "node2"]
    for node in nodes:
        assert {c["type"]: c["status"] for c in node["status"]["conditions"]}["Ready"] == "True"


def test_a_pod_runs_and_its_log_is_read(cluster: LiveCluster, namespace: str) -> None:
    said = output_of(cluster, namespace, "python3", "-c", "import os, pydantic; print(os.getuid(), pydantic.__name__)")

    assert said == "65532 pydantic\n"


@pytest.mark.parametrize("node", ["node1", "node2"])
def test_a_service_reaches_its_pod_from_everywhere(cluster: LiveCluster, namespace: str, node: str) -> None:
    """By name, from the other node, from the pod itself, and from the machine."""
    serve_a_page(cluster, namespace, node)
    other = {"node1": "node2", "node2": "node1"}[node]
    apply(cluster, namespace, a_pod("far", cluster.images.operator, "sleep", "60", node=other))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/far", "--timeout=60s", namespace=namespace)
    address = cluster.get("service", "web", namespace=namespace)["spec"]["clusterIP"]
    url = f"http://web.{namespace}.svc.cluster.local/page"

    for pod in ("far", "web"):
        assert cluster.kubectl("exec", pod, "--", "python3", "-c", FETCH, url, namespace=namespace).strip() == "web"
    from_here = ["python3", "-c", FETCH, f"http://{address}/page"]
    assert subprocess.run(from_here, capture_output=True, text=True, check=True).stdout.strip() == "web"


def test_gpus_are_handed_out_until_none_is_left(cluster: LiveCluster, namespace: str) -> None:
    image, total = cluster.images.operator, GPUS_PER_NODE * len(cluster.nodes)
    apply(cluster, namespace, *(a_pod(f"gpu{n}", image, "sleep", "60", gpus=1) for n in range(total)))
    for n in range(total):
        cluster.kubectl("wait", "--for=condition=Ready", f"pod/gpu{n}", "--timeout=60s", namespace=namespace)
    devices = {
        cluster.kubectl("exec", f"gpu{n}", "--", "printenv", "NVIDIA_VISIBLE_DEVICES", namespace=namespace).strip()
        for n in range(total)
    }
    assert devices == {f"GPU-{node}-{n}" for node in cluster.nodes for n in range(GPUS_PER_NODE)}

    apply(cluster, namespace, a_pod("one-too-many", image, "sleep", "60", gpus=1))
    unschedulable = "--for=jsonpath={.status.conditions[?(@.type=='PodScheduled')].reason}=Unschedulable"
    cluster.kubectl("wait", unschedulable, "pod/one-too-many", "--timeout=60s", namespace=namespace)
    conditions = cluster.get("pod", "one-too-many", namespace=namespace)["status"]["conditions"]
    assert f"Insufficient {RESOURCE}" in conditions[0]["message"]


def test_nodes_carry_the_labels_of_feature_discovery(cluster: LiveCluster) -> None:
    for node in cluster.get("nodes")["items"]:
        labels = node["metadata"]["labels"]
        assert labels["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"
        assert labels["nvidia.com/gpu.count"] == str(GPUS_PER_NODE)
        assert labels["nvidia.com/gpu.memory"] == "81559"
        assert (labels["nvidia.com/gpu.compute.major"], labels["nvidia.com/gpu.compute.minor"]) == ("9", "0")


def test_a_claim_is_shared_by_both_nodes_and_removed_with_its_volume(cluster: LiveCluster, namespace: str) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Mi"}}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": spec}
    pods = [
        a_pod("writer", cluster.images.operator, "sh", "-c", "echo hello > /shared/file", node="node1"),
        a_pod(
            "reader", cluster.images.operator, "sh", "-c", "until cat /shared/file; do sleep 0.2; done", node="node2"
        ),
    ]
    for pod in pods:
        pod["spec"]["volumes"] = [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}]
        pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "shared", "mountPath": "/shared"}]

    apply(cluster, namespace, claim, *pods)

    cluster.kubectl(
        "wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/reader", "--timeout=60s", namespace=namespace
    )
    assert cluster.kubectl("logs", "reader", namespace=namespace).endswith("hello\n")
    volume = cluster.get("pvc", "shared", namespace=namespace)["spec"]["volumeName"]
    cluster.kubectl("delete", "pod,pvc", "--all", namespace=namespace)
    cluster.kubectl("wait", "--for=delete", f"pv/{volume}", "--timeout=60s")
    assert not (cluster.local.home.cluster / "volumes" / volume).exists()


def test_kubectl_top_knows_a_pod(cluster: LiveCluster, namespace: str) -> None:
    apply(cluster, namespace, a_pod("busy", cluster.images.operator, "sh", "-c", "while :; do :; done"))

    def measured() -> bool:
        try:
            return "busy" in cluster.kubectl("top", "pods", namespace=namespace)
        except ClusterError:
            return False  # until the second round of measuring

    wait_until(measured, seconds=120, else_raise=lambda: AssertionError("no metrics within 120 s"))


def test_the_audit_log_names_who_wrote_what(cluster: LiveCluster, namespace: str) -> None:
    cluster.kubectl("create", "configmap", "noticed", namespace=namespace)

    objects = [entry for entry in cluster.audit() if entry["objectRef"].get("namespace") == namespace]
    written = [entry for entry in objects if entry["objectRef"].get("name") == "noticed"]
    assert [entry["verb"] for entry in written] == ["create"]
    assert written[0]["user"]["username"] == "admin"
    assert written[0]["userAgent"].startswith("kubectl")
    assert not [entry for entry in cluster.audit() if entry["verb"] in ("get", "list", "watch")]


def test_up_on_a_running_cluster_changes_nothing(cluster: LiveCluster) -> None:
    processes = cluster.local.processes
    before = {name: processes.pid(name) for name in processes.known()}

    done = subprocess.run([CLONE / ".venv/bin/nemotron-devcluster", "up"], capture_output=True, text=True, check=True)

    assert done.stdout.startswith(f"export KUBECONFIG={cluster.kubeconfig}")
    assert {name: processes.pid(name) for name in processes.known()} == before


def test_changed_code_is_a_new_image_and_the_same_code_the_same(cluster: LiveCluster) -> None:
    images = (str(CLONE / ".venv/bin/nemotron-devcluster"), "images")
    said = [subprocess.run(images, capture_output=True, text=True, check=True).stdout for _ in range(2)]

    assert said[0] == said[1] == f"{cluster.images.operator}\n{cluster.images.backend}\n"


def test_a_node_that_lost_power_comes_back(cluster: LiveCluster, namespace: str) -> None:
    """Last in this file: it takes the grace period of the cluster, most of a minute."""
    serve_a_page(cluster, namespace, "node2")
    cluster.stop_node("node2")
    try:
        cluster.kubectl("wait", "--for=condition=Ready=Unknown", "node/node2", "--timeout=120s")
    finally:
        cluster.start_node("node2")

    cluster.kubectl("delete", "pod", "web", namespace=namespace)
    serve_a_page(cluster, namespace, "node2")
    node = json.loads(cluster.kubectl("get", "node", "node2", "-o", "json"))
    assert node["status"]["allocatable"][RESOURCE] == str(GPUS_PER_NODE)
