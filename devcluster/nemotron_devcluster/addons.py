"""Install what every cluster has: names, metrics, storage."""

import base64
import string
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from nemotron_devcluster import network, system_images
from nemotron_devcluster.api import Api
from nemotron_devcluster.controlplane import ControlPlane
from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.kubectl import Kubectl
from nemotron_devcluster.process import Service
from nemotron_devcluster.progress import step, wait_until

FOLDER = resources.files(__package__).joinpath("addons")
DNS = "/apis/apps/v1/namespaces/kube-system/daemonsets/coredns"
DNS_LATE = "DNS does not become ready: look at `kubectl -n kube-system get pods` and the logs of coredns"


@dataclass(frozen=True, slots=True)
class Addons:
    """The manifests beside this module, with this cluster's images and certificates filled in."""

    control_plane: ControlPlane

    def manifests(self) -> str:
        sources = sorted((file for file in FOLDER.iterdir() if file.name.endswith(".yaml")), key=lambda file: file.name)
        template = string.Template("\n---\n".join(source.read_text() for source in sources))
        return template.substitute(self._values())

    def apply(self) -> None:
        """Apply the manifests unless these very ones were."""
        home = self.control_plane.home
        applied, content = home.cluster / "addons.yaml", self.manifests()
        if applied.exists() and applied.read_text() == content:
            return
        with step("installing DNS, metrics and storage"):
            kubectl = Kubectl(home.bin, home.kubeconfig, "kube-system")
            kubectl.run("apply", "--server-side", "-f", "-", text=content)
            applied.write_text(content)

    def storage(self) -> Service:
        """The process that makes volumes for claims."""
        folder, authority = self.control_plane.home.cluster / "volumes", self.control_plane.authority.directory
        return Service("storage", (sys.executable, "-m", "nemotron_devcluster.storage", str(folder), str(authority)))

    def wait_for_names(self, api: Api) -> None:
        """Until DNS answers. Metrics follow on their own: they need two rounds of measuring, about 20 seconds."""

        def names_resolve() -> bool:
            status = api.get(DNS)["status"]
            return bool(status.get("numberReady") == 1 and status.get("updatedNumberScheduled") == 1)

        if not names_resolve():
            with step("waiting for DNS"):
                wait_until(names_resolve, seconds=120, else_raise=lambda: ClusterError(DNS_LATE))

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
