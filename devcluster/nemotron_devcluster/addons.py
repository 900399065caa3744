"""Install what every cluster has: names, metrics, storage."""

import base64
import string
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from nemotron_devcluster import network, system_images
from nemotron_devcluster.controlplane import ControlPlane
from nemotron_devcluster.errors import ClusterError

FOLDER = resources.files(__package__).joinpath("addons")


@dataclass(frozen=True, slots=True)
class Addons:
    """The manifests beside this module, with this cluster's images and certificates filled in."""

    control_plane: ControlPlane

    def manifests(self) -> str:
        sources = sorted((file for file in FOLDER.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
        template = string.Template("\n---\n".join(source.read_text() for source in sources))
        return template.substitute(self._values())

    def apply(self) -> None:
        kubectl = str(self.control_plane.tools.path("kubectl"))
        argv = [kubectl, f"--kubeconfig={self.control_plane.home.kubeconfig}", "apply", "--server-side", "-f", "-"]
        done = subprocess.run(argv, input=self.manifests(), capture_output=True, text=True)
        if done.returncode:
            raise ClusterError(f"the addons are refused:\n{done.stderr.strip()}")

    def _values(self) -> dict[str, str]:
        authority = self.control_plane.authority
        hosts = ("metrics-server.kube-system.svc", "metrics-server.kube-system.svc.cluster.local")
        metrics = authority.issue("metrics-server", "metrics-server", hosts=hosts)
        tools = self.control_plane.tools
        return {
            "coredns": system_images.coredns(tools).reference,
            "dns_address": network.DNS_ADDRESS,
            "metrics_server": system_images.metrics_server(tools).reference,
            "metrics_certificate": _base64(metrics.certificate),
            "metrics_key": _base64(metrics.key),
            "cluster_authority": _base64(authority.certificate),
        }


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
