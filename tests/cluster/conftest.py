"""Start a real cluster with two nodes for the tests of this folder, and prove that stopping it leaves nothing."""

import os
import uuid
from collections.abc import Iterator

import pytest

from nemotron_devcluster import machine, project_images
from nemotron_devcluster.cluster import Cluster
from nemotron_devcluster.gpu import Gpus
from nemotron_devcluster.home import home
from nemotron_devcluster.release import Images
from tests.cluster.live import LiveCluster
from tests.cluster.machine_state import MachineState

GPUS_PER_NODE = 2


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
