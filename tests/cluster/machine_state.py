"""What a local cluster could leave behind on a machine."""

import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

from nemotron_devcluster import cgroup
from nemotron_devcluster.home import home
from nemotron_devcluster.network import SYSCTLS

# Where the node's programs write on a machine they have to themselves.
FOLDERS = (
    "/etc/cni/net.d",
    "/opt/containerd",
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)


@dataclass(frozen=True, slots=True)
class MachineState:
    """One look at everything that must be the same before and after."""

    mounts: frozenset[str]
    interfaces: frozenset[str]
    routes: frozenset[str]
    rules: frozenset[str]
    processes: frozenset[str]
    cgroups: frozenset[str]
    sysctls: frozenset[str]
    files: frozenset[str]

    @classmethod
    def look(cls) -> "MachineState":
        return cls(
            mounts=frozenset(Path("/proc/mounts").read_text().splitlines()),
            interfaces=frozenset(path.name for path in Path("/sys/class/net").iterdir()),
            routes=_lines("ip", "route", "show", "table", "all"),
            rules=_lines("nft", "list", "ruleset"),
            processes=frozenset(_processes()),
            cgroups=frozenset(map(str, cgroup.parents())),
            sysctls=frozenset(f"{name}={Path('/proc/sys', name).read_text().strip()}" for name in SYSCTLS),
            files=frozenset(_files()),
        )

    def left_since(self, before: "MachineState") -> dict[str, frozenset[str]]:
        """What is here now and was not, and what was here and is gone, by kind."""
        kinds = {field.name: getattr(self, field.name) ^ getattr(before, field.name) for field in fields(self)}
        return {name: difference for name, difference in kinds.items() if difference}


def _lines(*argv: str) -> frozenset[str]:
    return frozenset(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines())


def _processes() -> list[str]:
    """What names the cluster's folder, and whatever runs in a process namespace of its own, as nodes do."""
    ours, folder = Path("/proc/self/ns/pid").readlink(), str(home().cluster)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            elsewhere = (process / "ns/pid").readlink() != ours
        except OSError:
            continue  # ended while we looked
        if command and (elsewhere or folder in command):
            found.append(f"{process.name} {command}")
    return found


def _files() -> list[str]:
    return [f"{path}" for folder in FOLDERS for path in [Path(folder), *Path(folder).glob("*")] if path.exists()]
