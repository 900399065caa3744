"""Wire nodes to each other and to this machine, and put the machine's network back as it was.

A bridge on the machine is the switch. Each node has a network namespace of its own with one cable to that switch, and
routes the pods behind it:

    machine, API server  10.88.0.1 ── nemotron0 ──┬── 10.88.0.2  node1 ── pods 10.88.1.0/24
                                                  └── 10.88.0.3  node2 ── pods 10.88.2.0/24
"""

import contextlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

SWITCH = "nemotron0"
API_ADDRESS = "10.88.0.1"
API_URL = f"https://{API_ADDRESS}:6443"
CLUSTER_NETWORK = "10.88.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
SERVICE_API_ADDRESS = "10.96.0.1"
DNS_ADDRESS = "10.96.0.10"
MAX_NODES = 2

# Nodes and pods reach each other under their own addresses; the rest of the world sees this machine's.
TABLE = "ip nemotron"
RULES = f"""
table {TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    ip saddr {CLUSTER_NETWORK} oifname != "{SWITCH}" masquerade
  }}
}}
"""

# What nodes change for the whole machine: no namespace holds these.
SYSCTLS = (
    "net/ipv4/ip_forward",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


@dataclass(frozen=True, slots=True)
class NodeNetwork:
    """The addresses of one node, counted from 1."""

    index: int

    @property
    def address(self) -> str:
        return f"10.88.0.{self.index + 1}"

    @property
    def pods(self) -> str:
        return f"10.88.{self.index}.0/24"

    @property
    def gateway(self) -> str:
        """The node, as its pods see it."""
        return f"10.88.{self.index}.1"

    @property
    def cable(self) -> str:
        """The machine's end of it."""
        return f"nemotron-node{self.index}"

    def routes(self) -> list[tuple[str, str]]:
        """Where this node sends packets: (destination, next hop)."""
        peers = [NodeNetwork(index) for index in range(1, MAX_NODES + 1) if index != self.index]
        return [("default", API_ADDRESS), *((peer.pods, peer.address) for peer in peers)]


def up(memory: Path) -> None:
    """Make the switch and the masquerading; `memory` keeps the sysctls as they were found."""
    if not memory.exists():
        found = {name: _sysctl(name).read_text().strip() for name in SYSCTLS if _sysctl(name).exists()}
        memory.write_text(json.dumps(found))
    _sysctl("net/ipv4/ip_forward").write_text("1")
    if Path(f"/sys/class/net/{SWITCH}").exists():
        return
    _run("ip", "link", "add", SWITCH, "type", "bridge")
    _run("ip", "address", "add", f"{API_ADDRESS}/24", "dev", SWITCH)
    _run("ip", "link", "set", SWITCH, "up")
    _run("nft", "-f", "-", stdin=RULES)


def is_connected(node: NodeNetwork) -> bool:
    """Whether the node's cable is plugged in."""
    return Path(f"/sys/class/net/{node.cable}").exists()


def disconnect(node: NodeNetwork) -> None:
    """Pull the cable. It would go with the node's namespace, but dying connections can hold that for minutes."""
    if is_connected(node):
        _run("ip", "link", "delete", node.cable)


def connect(node: NodeNetwork, process: int) -> None:
    """Plug the node whose first process this is into the switch, and tell the machine what is behind it."""
    _run("ip", "link", "add", node.cable, "type", "veth", "peer", "name", "eth0", "netns", str(process))
    _run("ip", "link", "set", node.cable, "master", SWITCH, "up")
    inside = ("nsenter", f"--target={process}", "--net", "--", "ip")
    _run(*inside, "link", "set", "lo", "up")
    _run(*inside, "address", "add", f"{node.address}/24", "dev", "eth0")
    _run(*inside, "link", "set", "eth0", "up")
    for destination, hop in node.routes():
        _run(*inside, "route", "add", destination, "via", hop)
    _run("ip", "route", "replace", node.pods, "via", node.address)
    if node.index == 1:
        # From the machine, Services are reached through the first node's proxy.
        _run("ip", "route", "replace", SERVICE_NETWORK, "via", node.address)


def down(memory: Path) -> None:
    """Remove the switch, with it every route, and the rules; restore the sysctls."""
    if Path(f"/sys/class/net/{SWITCH}").exists():
        _run("ip", "link", "delete", SWITCH)
    _run("nft", "-f", "-", stdin=f"table {TABLE}\ndelete table {TABLE}\n")
    with contextlib.suppress(FileNotFoundError):
        for name, value in json.loads(memory.read_text()).items():
            _sysctl(name).write_text(value)


def _sysctl(name: str) -> Path:
    return Path("/proc/sys") / name


def _run(*argv: str, stdin: str | None = None) -> None:
    subprocess.run(argv, input=stdin, text=True, check=True)
