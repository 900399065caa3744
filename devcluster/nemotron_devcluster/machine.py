"""See to it that one machine runs one local cluster, and that everyone knows whose it is."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.home import CLONE, Home, home

# Not below the user's cache: addresses, interfaces and ports are the machine's, whoever starts a cluster.
RECORD = Path("/run/nemotron-devcluster.json")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose cluster is up: the working copy that started it and the folder its state is in."""

    clone: str
    home: str

    @property
    def is_gone(self) -> bool:
        """Whether the working copy was deleted, so that nobody else can stop its cluster."""
        return not Path(self.clone).exists()


def us(ours: Home) -> Owner:
    return Owner(str(CLONE), str(ours.root))


def owner() -> Owner | None:
    """Whose cluster is up on this machine, if any."""
    try:
        return Owner(**json.loads(RECORD.read_text()))
    except FileNotFoundError:
        return None


def claim(ours: Home) -> None:
    """Record that the cluster is ours. Raises when another working copy's is up or the machine cannot run one."""
    if os.geteuid() != 0:
        raise ClusterError("nodes need root (namespaces, mounts, cgroups): run as root, or set CLUSTER=existing")
    require_ours(ours)
    if owner() is None and Path("/var/lib/kubelet/config.yaml").exists():
        raise ClusterError("this machine is a Kubernetes node already: set CLUSTER=existing to use that cluster")
    RECORD.write_text(json.dumps(asdict(us(ours))))


def require_ours(ours: Home) -> None:
    """Raise when the cluster that is up belongs to another working copy that still exists."""
    present = owner()
    if present and present != us(ours) and not present.is_gone:
        raise ClusterError(
            f"the cluster of {present.clone} is up on this machine: run `make cluster-down` there first, "
            "or set CLUSTER=existing to use the cluster your kubeconfig names"
        )


def release() -> None:
    RECORD.unlink(missing_ok=True)


@contextmanager
def exclusively() -> Iterator[None]:
    """One `up` or `down` at a time; a second one waits for the first."""
    lock = home().root / "cluster.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
