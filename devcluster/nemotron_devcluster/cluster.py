"""Bring the local cluster up, take it down, give it images."""

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nemotron_devcluster import audit, cgroup, machine, network, system_images
from nemotron_devcluster.addons import Addons
from nemotron_devcluster.api import Api
from nemotron_devcluster.containerd import Containerd
from nemotron_devcluster.controlplane import ControlPlane
from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.gpu import Gpus
from nemotron_devcluster.gpu_plugins import GpuPlugins
from nemotron_devcluster.home import Home
from nemotron_devcluster.image import Image
from nemotron_devcluster.layer import LayerStore
from nemotron_devcluster.node import Node
from nemotron_devcluster.process import Processes
from nemotron_devcluster.progress import step, wait_until
from nemotron_devcluster.tools import Tools


@dataclass(frozen=True, slots=True)
class Cluster:
    """The one local cluster of this machine."""

    home: Home

    @property
    def tools(self) -> Tools:
        return Tools(self.home)

    @property
    def processes(self) -> Processes:
        return Processes(self.home.cluster / "processes")

    @property
    def control_plane(self) -> ControlPlane:
        return ControlPlane(self.home, self.tools)

    @property
    def api(self) -> Api:
        return Api(self.control_plane.authority)

    @property
    def layers(self) -> LayerStore:
        return LayerStore(self.home.layers)

    def node(self, index: int) -> Node:
        return Node(index, self.control_plane, self.processes)

    def nodes(self) -> list[Node]:
        """The nodes that were set up, on or off."""
        return [node for node in map(self.node, range(1, network.MAX_NODES + 1)) if node.directory.exists()]

    def up(self, nodes: int | None = None, gpus: Gpus | None = None) -> None:
        """Start what does not run yet, and return when pods can be scheduled.

        Nodes are only ever added. None keeps what the cluster has: at first one node, without GPUs.
        """
        if nodes is not None and not 1 <= nodes <= network.MAX_NODES:
            raise ClusterError(f"NODES={nodes}: a local cluster has 1 to {network.MAX_NODES} nodes")
        machine.claim(self.home)
        self.tools.build()
        self.home.cluster.mkdir(parents=True, exist_ok=True)
        wanted = [self.node(index) for index in range(1, max(nodes or 1, len(self.nodes())) + 1)]
        network.up(self.home.cluster / "sysctls.json")
        self._start_control_plane()
        addons = Addons(self.control_plane)
        addons.apply()
        self.processes.start(addons.storage())
        for node in wanted:
            self._boot(node)
        self._gpu_plugins.offer(wanted, gpus)
        addons.wait_for_names(self.api)

    def down(self) -> None:
        """Stop everything and leave the machine as it was; caches stay."""
        machine.require_ours(self.home)
        for node in self.nodes():
            with step(f"switching {node.name} off"):
                node.power_off()
        with step("stopping the control plane"):
            for name in reversed(self.processes.known()):
                self.processes.stop(name, seconds=3)
            network.down(self.home.cluster / "sysctls.json")
            cgroup.remove_all()
        if self.home.cluster.exists():
            with step("removing its files"):
                shutil.rmtree(self.home.cluster)
        self.layers.prune()
        machine.release()

    def start_node(self, node: Node) -> None:
        """Start what does not run of a node and return when it is Ready and has its GPUs."""
        self._boot(node)
        self._gpu_plugins.offer([node], None)

    @property
    def _gpu_plugins(self) -> GpuPlugins:
        return GpuPlugins(self.api, self.processes, self.home.cluster / "gpus.json")

    def _boot(self, node: Node) -> None:
        if all(map(self.processes.pid, node.service_names)) and self._readiness(node).get("status") == "True":
            return
        images = [system_images.pause(self.tools)]
        if node.index == 1:
            images += [system_images.coredns(self.tools), system_images.metrics_server(self.tools)]
        for image in images:
            self.layers.ensure_all(image.layers)
        with step(f"starting {node.name}"):
            began = time.time()
            node.prepare(images[0].reference)
            node.power_on()
            for image in images:
                Containerd(node, self.layers).add(image)
            node.join()
            wait_until(lambda: self._has_joined(node, began), seconds=120, else_raise=lambda: self._not_ready(node))
        if node.index == 1:
            label = {"node-role.kubernetes.io/control-plane": ""}
            self.api.patch(f"/api/v1/nodes/{node.name}", {"metadata": {"labels": label}})

    def add_images(self, images: Iterable[Image]) -> None:
        """Make images known to every node."""
        for image in images:
            self.layers.ensure_all(image.layers)
            for node in self.nodes():
                Containerd(node, self.layers).add(image)

    def load(self, archives: Iterable[Path]) -> None:
        """Import docker or OCI archives on every node, for images that were built elsewhere."""
        for archive in archives:
            for node in self.nodes():
                with step(f"loading {archive.name} on {node.name}"):
                    Containerd(node, self.layers).load(archive)

    def audit(self, since: float = 0.0) -> Iterator[dict[str, Any]]:
        """Every write the API server answered since then (seconds since the epoch), oldest first."""
        return audit.entries(self.home.audit_log, since)

    def _start_control_plane(self) -> None:
        self.control_plane.prepare()
        services = self.control_plane.services()

        def answers() -> bool:
            self.processes.require(service.name for service in services)
            return self.api.is_ready()

        if all(self.processes.pid(service.name) for service in services) and answers():
            return
        with step("starting the control plane"):
            for service in services:
                self.processes.start(service)
            late = ClusterError(f"the API server is not ready.\n{self.processes.story('kube-apiserver')}")
            wait_until(answers, seconds=120, else_raise=lambda: late)

    def _has_joined(self, node: Node, began: float) -> bool:
        """Whether the node is Ready and said so since we began: until then the cluster believes what was before."""
        self.processes.require(node.service_names)
        ready = self._readiness(node)
        if ready.get("status") != "True":
            return False
        # Heartbeats are written in whole seconds.
        return datetime.fromisoformat(ready["lastHeartbeatTime"]).timestamp() >= int(began)

    def _readiness(self, node: Node) -> dict[str, str]:
        """The node's Ready condition; empty before it registered."""
        found = self.api.find(f"/api/v1/nodes/{node.name}")
        conditions = found["status"].get("conditions", []) if found else []
        return next((condition for condition in conditions if condition["type"] == "Ready"), {})

    def _not_ready(self, node: Node) -> ClusterError:
        kubelet = self.processes.story(f"{node.name}-kubelet")
        return ClusterError(f"{node.name} does not become Ready.\n{kubelet}")
