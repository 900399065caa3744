"""Give a node's containerd an image whose layers are trees on this machine's disk."""

import json
from dataclasses import dataclass
from pathlib import Path

from nemotron_devcluster.image import Image
from nemotron_devcluster.layer import LayerStore
from nemotron_devcluster.node import Node

CTR = ("ctr", "--namespace", "k8s.io")
SNAPSHOTS = (*CTR, "snapshots", "--snapshotter", "overlayfs")


@dataclass(frozen=True, slots=True)
class Containerd:
    """The images of one node."""

    node: Node
    store: LayerStore

    def references(self) -> set[str]:
        return set(self.node.run(*CTR, "images", "list", "--quiet").decode().split())

    def add(self, image: Image) -> None:
        """Make the image known, unless it is.

        A layer enters as a committed snapshot that is but a link to its tree, without ever being an archive: a 5 GB
        environment is there at once, on every node, and takes no disk twice. Containers mount snapshots as the lower
        directories of an overlay, which the kernel never writes to.
        """
        if image.reference in self.references():
            return
        present = {line.split()[0] for line in self.node.run(*SNAPSHOTS, "list").decode().splitlines()[1:]}
        parent = ""
        for layer, chain_id in zip(image.layers, image.chain_ids, strict=True):
            if chain_id not in present:
                self._commit(self.store.ensure(layer), chain_id, parent)
            parent = chain_id
        self.node.run(*CTR, "images", "import", "--no-unpack", "-", stdin=image.archive())

    def load(self, archive: Path) -> None:
        """Import a docker or OCI archive."""
        self.node.run(*CTR, "images", "import", str(archive.resolve()))

    def _commit(self, tree: Path, chain_id: str, parent: str) -> None:
        """Make the tree a snapshot of this name. What a killed attempt left behind is removed first."""
        active = f"{chain_id}-linking"
        listed = self.node.run(*SNAPSHOTS, "list").decode()
        if active in listed:
            self.node.run(*SNAPSHOTS, "remove", active)
        mounts = json.loads(self.node.run(*SNAPSHOTS, "prepare", "--mounts", active, *([parent] if parent else [])))
        directory = _writable_directory(mounts[0])
        directory.rmdir()
        directory.symlink_to(tree)
        self.node.run(*SNAPSHOTS, "commit", chain_id, active)


def _writable_directory(mount: dict[str, object]) -> Path:
    """Where a snapshot's own files are: its only directory, or the upper one of an overlay."""
    if mount["Type"] == "bind":
        return Path(str(mount["Source"]))
    options = mount["Options"]
    assert isinstance(options, list)
    return next(Path(option.removeprefix("upperdir=")) for option in options if option.startswith("upperdir="))
