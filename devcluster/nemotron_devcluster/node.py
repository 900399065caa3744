"""Run one node: containerd, a kubelet and a proxy in namespaces of their own, so that it can lose power."""

import json
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from nemotron_devcluster import cgroup, network, nodeconfig
from nemotron_devcluster.controlplane import ControlPlane
from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.network import NodeNetwork
from nemotron_devcluster.process import Processes, Service, children
from nemotron_devcluster.progress import wait_until

ISOLATE = (
    *("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--propagation=private"),
    "--kill-child",  # who ends the process that holds the node ends the node
)

# What process 1 of a node does. Whatever the node mounts, and whatever it writes where the machine's own services
# write, is seen by the node alone and gone with it. The kubelet's plugin folder has a fixed path, so each node mounts
# its own there.
PRIVATE = ("/run", "/var/lib", "/var/log")
POWER_ON = f"""
set -e
for directory in {" ".join(PRIVATE)}; do mount -t tmpfs -o mode=755 tmpfs $directory; done
mkdir -p /var/lib/kubelet/device-plugins
mount --bind "$1" /var/lib/kubelet/device-plugins
exec "$2"
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the local cluster: `node1`, `node2`, …"""

    index: int
    control_plane: ControlPlane
    processes: Processes

    @property
    def name(self) -> str:
        return f"node{self.index}"

    @property
    def network(self) -> NodeNetwork:
        return NodeNetwork(self.index)

    @property
    def directory(self) -> Path:
        return self.control_plane.home.cluster / self.name

    @property
    def device_plugins(self) -> Path:
        """Where the kubelet listens for device plugins, as seen from the machine."""
        return self.directory / "device-plugins"

    @property
    def service_names(self) -> list[str]:
        return [self.name, *(f"{self.name}-{service}" for service in ("containerd", "kubelet", "proxy"))]

    @property
    def is_on(self) -> bool:
        return self.processes.pid(self.name) is not None

    def prepare(self, pause_image: str) -> None:
        """Write the node's certificates and configuration."""
        for hidden in PRIVATE:
            if self.directory.is_relative_to(hidden):
                raise ClusterError(f"a node sees nothing of this machine's {hidden}: set XDG_CACHE_HOME elsewhere")
        for directory in ("device-plugins", "cni", "containerd", "kubelet", "logs"):
            (self.directory / directory).mkdir(parents=True, exist_ok=True)
        pair = self.control_plane.authority.issue(
            f"{self.name}-kubelet", f"system:node:{self.name}", "system:nodes", hosts=(self.name, self.network.address)
        )
        authority = self.control_plane.authority.certificate
        (self.directory / "containerd.toml").write_text(nodeconfig.containerd(self.directory, pause_image))
        for name, content in (
            ("cni/10-pods.conflist", nodeconfig.cni(self.directory, self.network)),
            ("kubelet.json", nodeconfig.kubelet(self.directory, self.network, authority, pair)),
            ("proxy.json", nodeconfig.proxy(self.name, self.network, self.control_plane.kubeconfig("kube-proxy"))),
        ):
            (self.directory / name).write_text(json.dumps(content))
        (self.directory / "resolv.conf").write_text(nodeconfig.resolvers())

    def power_on(self) -> None:
        """Start process 1, plug in the network and start containerd."""
        pause = str(self.control_plane.tools.path("pause"))
        boot = ("sh", "-c", POWER_ON, self.name, str(self.device_plugins), pause)
        self.processes.start(Service(self.name, ISOLATE + boot))
        wait_until(self._has_booted, seconds=20, else_raise=self._did_not_start)
        first = self._first_process()
        if first is not None and not network.is_connected(self.network):
            network.connect(self.network, first)
        config = str(self.directory / "containerd.toml")
        self.processes.start(self._service("containerd", "containerd", "--config", config))
        wait_until(self._containerd_answers, seconds=60, else_raise=self._did_not_start)

    def join(self) -> None:
        """Start kubelet and proxy. Images the node needs at once must be there."""
        kubeconfig = self.control_plane.write_identity(self.name, f"system:node:{self.name}", "system:nodes")
        argv = [
            str(self.control_plane.tools.path("kubelet")),
            f"--config={self.directory}/kubelet.json",
            f"--kubeconfig={kubeconfig}",
            f"--root-dir={self.directory}/kubelet",
            f"--hostname-override={self.name}",
            f"--node-ip={self.network.address}",
        ]
        self.processes.start(self._service("kubelet", *argv))
        proxy = str(self.control_plane.tools.path("kube-proxy"))
        self.processes.start(self._service("proxy", proxy, f"--config={self.directory}/proxy.json"))

    def power_off(self) -> None:
        """End every process of the node at once, as a power cut does; its disk stays."""
        containers = self._containers()
        # First the network: nobody hears the node die.
        network.disconnect(self.network)
        # The kernel ends a process namespace with its first process; the others follow when nobody is left in them.
        self.processes.stop(self.name, how=signal.SIGKILL)
        for name in self.service_names[1:]:
            self.processes.stop(name, how=signal.SIGKILL)
        # A machine's groups go with its power. Found again, each would keep the next kubelet waiting for seconds.
        cgroup.remove(containers)

    def run(self, *argv: str, stdin: bytes | None = None) -> bytes:
        """Run a command on the node and return what it printed; raise with its error text if it fails."""
        done = subprocess.run([*self._enter(), *argv], input=stdin, capture_output=True)
        if done.returncode:
            raise ClusterError(f"on {self.name}: {' '.join(argv)}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout

    def _service(self, name: str, *argv: str) -> Service:
        return Service(f"{self.name}-{name}", (*self._enter(), *argv))

    def _enter(self) -> tuple[str, ...]:
        first = self._first_process()
        if first is None:
            raise ClusterError(f"{self.name} is off: run `nemotron-devcluster up`")
        return ("nsenter", f"--target={first}", "--mount", "--net", "--pid", "--")

    def _containers(self) -> list[str]:
        """What runs on the node, by containerd's names."""
        tasks = Path(f"/proc/{self._first_process()}/root/run/containerd/io.containerd.runtime.v2.task/k8s.io")
        return [task.name for task in tasks.iterdir()] if tasks.exists() else []

    def _first_process(self) -> int | None:
        holder = self.processes.pid(self.name)
        return next(iter(children(holder)), None) if holder else None

    def _has_booted(self) -> bool:
        self.processes.require([self.name])
        first = self._first_process()
        return first is not None and Path(f"/proc/{first}/comm").read_text().strip() == "pause"

    def _containerd_answers(self) -> bool:
        self.processes.require(self.service_names[:2])
        return not subprocess.run([*self._enter(), "ctr", "version"], capture_output=True).returncode

    def _did_not_start(self) -> ClusterError:
        logs = "\n".join(self.processes.tail(name) for name in self.service_names[:2])
        return ClusterError(f"{self.name} does not start. Its logs end with:\n{logs}")
