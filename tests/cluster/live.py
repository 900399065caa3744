"""The local cluster as tests see it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemotron_devcluster.cluster import Cluster
from nemotron_devcluster.kubectl import Kubectl
from nemotron_devcluster.node import Node
from nemotron_devcluster.release import Images


@dataclass(frozen=True, slots=True)
class LiveCluster:
    """A cluster that is up, with this working copy's images."""

    local: Cluster
    images: Images

    @property
    def kubeconfig(self) -> Path:
        return self.local.home.kubeconfig

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.local.nodes())

    def kubectl(self, *arguments: str, namespace: str = "default", text: str | None = None) -> str:
        """kubectl's output; raises ClusterError with its error text."""
        return Kubectl(self.local.home.bin, self.local.home.kubeconfig, namespace).run(*arguments, text=text)

    def get(self, *arguments: str, namespace: str = "default") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json", namespace=namespace))
        return found

    def audit(self, since: float = 0.0) -> Iterator[dict[str, Any]]:
        """Every write the API server answered since then (seconds since the epoch), oldest first."""
        return self.local.audit(since)

    def stop_node(self, name: str) -> None:
        """Take a node's power away. The cluster notices by itself, after its grace period."""
        self._node(name).power_off()

    def start_node(self, name: str) -> None:
        """Give it power again and wait until it is Ready."""
        self.local.start_node(self._node(name))

    def _node(self, name: str) -> Node:
        return next(node for node in self.local.nodes() if node.name == name)
