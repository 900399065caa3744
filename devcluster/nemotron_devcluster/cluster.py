"""Bring the local cluster up, take it down, give it images."""

import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemotron_devcluster import audit, machine, network, system_images
from nemotron_devcluster.addons import Addons
from nemotron_devcluster.api import Api, ApiError
from nemotron_devcluster.containerd import Containerd
from nemotron_devcluster.controlplane import ControlPlane
from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.gpu import RESOURCE, Gpus
from nemotron_devcluster.home import Home
from nemotron_devcluster.image import Image
from nemotron_devcluster.layer import LayerStore
from nemotron_devcluster.node import Node
from nemotron_devcluster.process import Processes, Service
from nemotron_devcluster.progress import step, wait_until
from nemotron_devcluster.tools import Tools

STORAGE = "storage"


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
        self._start_addons()
        for node in wanted:
            self.start_node(node)
        self._offer_gpus(wanted, gpus or Gpus.read(self._gpus_file))
        self._wait_for_names()

    def down(self) -> None:
        """Stop everything and leave the machine as it was; caches stay."""
        machine.require_ours(self.home)
        for node in self.nodes():
            with step(f"switching {node.name} off"):
                node.power_off()
        with step("stopping the control plane"):
            for name in reversed(self.processes.known()):
                self.processes.stop(name)
            network.down(self.home.cluster / "sysctls.json")
            machine.remove_cgroups()
        with step("removing its files"):
            shutil.rmtree(self.home.cluster, ignore_errors=True)
        self.layers.prune()
        machine.release()

    def start_node(self, node: Node) -> None:
        """Switch a node on and wait until it is Ready."""
        if node.is_on and self._is_ready(node):
            return
        with step(f"starting {node.name}"):
            pause = system_images.pause(self.tools)
            node.prepare(pause.reference)
            node.power_on()
            own = [pause]
            if node.index == 1:
                own += [system_images.coredns(self.tools), system_images.metrics_server(self.tools)]
            for image in own:
                Containerd(node, self.layers).add(image)
            node.join()
            wait_until(lambda: self._is_ready(node), seconds=120, else_raise=lambda: self._not_ready(node))
            if node.index == 1:
                label = {"node-role.kubernetes.io/control-plane": ""}
                self.api.patch(f"/api/v1/nodes/{node.name}", {"metadata": {"labels": label}})

    def add_images(self, images: Iterable[Image]) -> None:
        """Make images known to every node."""
        for image in images:
            for node in self.nodes():
                Containerd(node, self.layers).add(image)

    def load(self, archives: Iterable[Path]) -> None:
        """Import image archives on every node."""
        for archive in archives:
            for node in self.nodes():
                with step(f"loading {archive.name} on {node.name}"):
                    Containerd(node, self.layers).load(archive)

    def audit(self, since: float = 0.0) -> Iterator[dict[str, Any]]:
        """Every write the API server answered since then (seconds since the epoch), oldest first."""
        return audit.entries(self.home.audit_log, since)

    def _start_control_plane(self) -> None:
        services = self.control_plane.services() if self.control_plane.authority.pair.exists else []
        if services and all(self.processes.pid(service.name) for service in services) and self.api.is_ready():
            return
        with step("starting the control plane"):
            self.control_plane.prepare()
            for service in self.control_plane.services():
                self.processes.start(service)
            wait_until(self._answers, seconds=120, else_raise=lambda: ClusterError(self._log_of("kube-apiserver")))

    def _answers(self) -> bool:
        self.processes.require(service.name for service in self.control_plane.services())
        return self.api.is_ready()

    def _start_addons(self) -> None:
        addons = Addons(self.control_plane)
        applied = self.home.cluster / "addons.yaml"
        content = addons.manifests()
        self._start_storage()
        if not applied.exists() or applied.read_text() != content:
            with step("installing DNS, metrics and storage"):
                addons.apply()
                applied.write_text(content)

    def _start_storage(self) -> None:
        folder, authority = self.home.cluster / "volumes", self.control_plane.authority.directory
        argv = (sys.executable, "-m", "nemotron_devcluster.storage", str(folder), str(authority))
        self.processes.start(Service(STORAGE, argv))

    def _wait_for_names(self) -> None:
        """Until DNS answers. Metrics follow on their own: they need two rounds of measuring, about 20 seconds."""
        if not self._names_resolve():
            with step("waiting for DNS"):
                wait_until(self._names_resolve, seconds=120, else_raise=lambda: ClusterError(DNS_LATE))

    def _names_resolve(self) -> bool:
        status = self.api.get("/apis/apps/v1/namespaces/kube-system/daemonsets/coredns")["status"]
        return bool(status.get("numberReady") == 1 and status.get("updatedNumberScheduled") == 1)

    @property
    def _gpus_file(self) -> Path:
        return self.home.cluster / "gpus.json"

    def _offer_gpus(self, nodes: list[Node], gpus: Gpus) -> None:
        """Label the nodes and run their device plugins until every kubelet counts as many devices as asked for."""
        told = gpus == Gpus.read(self._gpus_file)
        nodes = [node for node in nodes if not told or self._gpus_of(node) != gpus.count]
        if not nodes:
            return
        with step(f"giving {' and '.join(node.name for node in nodes)} {gpus.count} × {gpus.product} each"):
            gpus.write(self._gpus_file)
            services = [self._plug_in(node, gpus) for node in nodes]

            def counted() -> bool:
                self.processes.require(services)
                return all(self._gpus_of(node) == gpus.count for node in nodes)

            wait_until(counted, seconds=60, else_raise=lambda: ClusterError("\n".join(map(self._log_of, services))))

    def _plug_in(self, node: Node, gpus: Gpus) -> str:
        """Start the node's device plugin anew; returns the process's name."""
        service = f"{node.name}-gpus"
        self.processes.stop(service)
        self.api.patch(f"/api/v1/nodes/{node.name}", {"metadata": {"labels": gpus.labels}})
        arguments = (str(node.device_plugins), node.name, str(gpus.count))
        argv = (sys.executable, "-m", "nemotron_devcluster.deviceplugin", *arguments)
        self.processes.start(Service(service, argv))
        return service

    def _gpus_of(self, node: Node) -> int:
        """How many GPUs the scheduler may hand out on the node."""
        return int(self.api.get(f"/api/v1/nodes/{node.name}")["status"]["allocatable"].get(RESOURCE, "0"))

    def _is_ready(self, node: Node) -> bool:
        self.processes.require(name for name in node.service_names if self.processes.known().count(name))
        try:
            status = self.api.get(f"/api/v1/nodes/{node.name}")["status"]
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return {"Ready": "True"}.items() <= {c["type"]: c["status"] for c in status.get("conditions", [])}.items()

    def _not_ready(self, node: Node) -> ClusterError:
        return ClusterError(f"{node.name} does not become Ready.\n{self._log_of(f'{node.name}-kubelet')}")

    def _log_of(self, name: str) -> str:
        return f"The end of {self.processes.log(name)}:\n{self.processes.tail(name)}"


DNS_LATE = "DNS does not become ready: look at `kubectl -n kube-system get pods` and the logs of coredns"
