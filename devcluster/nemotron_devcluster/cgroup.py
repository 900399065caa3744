"""Remove the control groups of containers that are gone: the kernel keeps them until somebody does."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.progress import wait_until

ROOT = Path("/sys/fs/cgroup")
CONTAINERS = "k8s.io"
"""The group containerd puts Kubernetes' containers in: below the root (version 2), or in every hierarchy (1)."""


def remove(containers: Iterable[str]) -> None:
    """Remove the groups of these containers, whose processes have ended."""
    for container in containers:
        for parent in parents():
            _remove_tree(parent / container)


def remove_all() -> None:
    for parent in parents():
        _remove_tree(parent)


def parents() -> list[Path]:
    return [*ROOT.glob(CONTAINERS), *ROOT.glob(f"*/{CONTAINERS}")]


def _remove_tree(root: Path) -> None:
    deepest_first = sorted(root.glob("**/"), key=lambda path: -len(path.parts))
    for group in deepest_first:
        text = f"processes remain in {group}: end those its cgroup.procs lists"
        wait_until(partial(_removed, group), seconds=10, else_raise=partial(ClusterError, text))


def _removed(group: Path) -> bool:
    """Whether a group is gone. The kernel lets go of it a moment after its last process ended."""
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
