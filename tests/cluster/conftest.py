"""Start a real cluster with two nodes for the tests of this folder, and prove that stopping it leaves nothing."""

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nemotron_devcluster import machine, project_images
from nemotron_devcluster.cluster import Cluster
from nemotron_devcluster.gpu import Gpus
from nemotron_devcluster.home import home
from nemotron_devcluster.release import Images
from tests.cluster.installed import Installed
from tests.cluster.kit import CHECKPOINT, Kube, a_deployment, wait_for
from tests.cluster.live import LiveCluster
from tests.cluster.machine_state import MachineState

GPUS_PER_NODE = 2
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "models"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "2Gi"}}},
}


@pytest.fixture(scope="session")
def cluster() -> Iterator[LiveCluster]:
    """A fresh cluster, taken down again. KEEP_CLUSTER=1 uses the one that is up, and leaves it for the next run."""
    if os.environ.get("CLUSTER") == "existing":
        pytest.fail("these tests switch nodes off and read the audit log: run them without CLUSTER=existing")
    local, keep = Cluster(home()), bool(os.environ.get("KEEP_CLUSTER"))
    with machine.exclusively():
        if not keep:
            local.down()
            before = MachineState.look()
        local.up(nodes=2, gpus=Gpus(GPUS_PER_NODE))
        images = (project_images.operator(local.home), project_images.backend(local.home))
        local.add_images(images)
    yield LiveCluster(local, Images(*(image.reference for image in images)))
    if keep:
        return
    with machine.exclusively():
        local.down()
    left = MachineState.look().left_since(before)
    assert not left, f"the cluster left traces: {left}"


@pytest.fixture
def namespace(cluster: LiveCluster) -> Iterator[str]:
    """A namespace of the test's own."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def operator(cluster: LiveCluster) -> Installed:
    """The operator, by its chart."""
    torch.set_num_threads(1)
    installed = Installed(cluster)
    installed.remove_others()
    installed.install("nemotron")
    return installed


@pytest.fixture
def kube(cluster: LiveCluster, operator: Installed) -> Iterator[Kube]:
    """A namespace of the test's own, with the tiny checkpoint on the claim `models`."""
    yield from _with_models(cluster, f"test-{uuid.uuid4().hex[:8]}")


@pytest.fixture(scope="session")
def served(cluster: LiveCluster, operator: Installed) -> Iterator[Kube]:
    """A namespace where `tiny` is served already; tests that share it leave it as it was."""
    for kube in _with_models(cluster, f"served-{uuid.uuid4().hex[:8]}"):
        kube.apply(a_deployment("tiny"))
        kube.wait_ready("tiny")
        yield kube


@pytest.fixture
def models(kube: Kube) -> Path:
    """The folder behind the claim `models`, to put broken checkpoints in."""
    return _folder(kube)


def _with_models(cluster: LiveCluster, name: str) -> Iterator[Kube]:
    kube = Kube(cluster.local.home.bin / "kubectl", cluster.kubeconfig, name)
    kube.run("create", "namespace", name)
    # Everything of ours must run where Pod Security is restricted.
    kube.run("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    kube.apply(CLAIM)
    shutil.copytree(CHECKPOINT, _folder(kube) / "tiny")
    yield kube
    kube.run("delete", "nd", "--all", "--timeout=120s")
    # The next test wants the processors: what drains politely here only holds them.
    kube.run("delete", "pod", "--all", "--grace-period=1", "--timeout=120s")
    kube.run("delete", "namespace", name, "--wait=false")


def _folder(kube: Kube) -> Path:
    """Where the claim's volume is on this machine."""

    def is_bound() -> bool:
        return bool(kube.get("pvc", "models")["spec"].get("volumeName"))

    wait_for(is_bound, 60)
    volume = kube.get("pvc", "models")["spec"]["volumeName"]
    folder = Path(kube.get("pv", volume)["spec"]["local"]["path"])
    wait_for(folder.is_dir, 30)
    return folder
