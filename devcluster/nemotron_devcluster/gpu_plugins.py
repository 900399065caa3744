"""Give nodes the GPUs they are told to have: labels, and a device plugin each."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nemotron_devcluster.api import Api
from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.gpu import RESOURCE, Gpus
from nemotron_devcluster.node import Node
from nemotron_devcluster.process import Processes, Service
from nemotron_devcluster.progress import step, wait_until


@dataclass(frozen=True, slots=True)
class GpuPlugins:
    """The device plugins of a cluster; `memory` is the file that keeps what its nodes were told."""

    api: Api
    processes: Processes
    memory: Path

    def offer(self, nodes: Sequence[Node], gpus: Gpus | None) -> None:
        """Return when every kubelet counts as many devices as asked for; None means as many as before."""
        told = Gpus.read(self.memory)
        gpus = gpus or told
        nodes = [node for node in nodes if gpus != told or self._counted(node) != gpus.count]
        if not nodes:
            return
        with step(f"giving {' and '.join(node.name for node in nodes)} {gpus.count} × {gpus.product} each"):
            gpus.write(self.memory)
            services = [self._plug_in(node, gpus) for node in nodes]

            def counted() -> bool:
                self.processes.require(services)
                return all(self._counted(node) == gpus.count for node in nodes)

            wait_until(counted, seconds=60, else_raise=lambda: self._not_counted(services))

    def _plug_in(self, node: Node, gpus: Gpus) -> str:
        """Start the node's device plugin anew; returns the process's name."""
        service = f"{node.name}-gpus"
        self.processes.stop(service)
        self.api.patch(f"/api/v1/nodes/{node.name}", {"metadata": {"labels": gpus.labels}})
        arguments = (str(node.device_plugins), node.name, str(gpus.count))
        argv = (sys.executable, "-m", "nemotron_devcluster.deviceplugin", *arguments)
        self.processes.start(Service(service, argv))
        return service

    def _counted(self, node: Node) -> int:
        """How many GPUs the scheduler may hand out on the node."""
        return int(self.api.get(f"/api/v1/nodes/{node.name}")["status"]["allocatable"].get(RESOURCE, "0"))

    def _not_counted(self, services: Sequence[str]) -> ClusterError:
        return ClusterError("the kubelets do not count the GPUs.\n" + "\n".join(map(self.processes.story, services)))
