"""Build both images from their Dockerfiles with buildah, for a registry."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nemotron_devcluster import rootfs
from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.home import CLONE, home
from nemotron_devcluster.layer import LayerStore
from nemotron_devcluster.progress import step

OWN_BASE = f"localhost/debian:{rootfs.SUITE}"
DOCKERFILES = {"nemotron-operator": "operator/Dockerfile", "nemotron-backend": "backend/Dockerfile"}
ARGUMENTS = {
    "nemotron-operator": ("BASE_IMAGE", "PACKAGE_INDEX"),
    "nemotron-backend": ("BASE_IMAGE", "EXTRAS", "OMIT", "PACKAGE_INDEX", "TORCH_INDEX"),
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What the environment asks for; see the Dockerfiles for what the build arguments mean."""

    registry: str
    tag: str
    arguments: Mapping[str, str]
    certificates: str
    """A file of certificate authorities that the build must trust, where the network needs one of its own."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Wish":
        names = {name for names in ARGUMENTS.values() for name in names}
        arguments = {name: environment[name] for name in sorted(names) if environment.get(name)}
        registry, tag = environment.get("REGISTRY") or "localhost", environment.get("TAG") or "latest"
        return cls(registry, tag, {"BASE_IMAGE": OWN_BASE, **arguments}, environment.get("SSL_CERT_FILE", ""))

    def reference(self, image: str) -> str:
        return f"{self.registry}/{image}:{self.tag}"

    def argv(self, image: str) -> list[str]:
        """The buildah command that builds this image."""
        # chroot: RUN steps need no container runtime, so this works inside containers and small machines too.
        argv = ["buildah", "bud", "--isolation=chroot", "--network=host", "--layers"]
        if self.certificates:
            argv += [f"--volume={self.certificates}:{self.certificates}:ro"]
            argv += [f"--build-arg=SSL_CERT_FILE={self.certificates}"]
        argv += [f"--build-arg={name}={self.arguments[name]}" for name in ARGUMENTS[image] if name in self.arguments]
        return [*argv, f"--file={DOCKERFILES[image]}", f"--tag={self.reference(image)}", "."]


def make_base() -> None:
    """Debian as the local cluster's images have it, for machines that reach no registry."""
    tree = LayerStore(home().layers).ensure(rootfs.layer())
    container = _buildah("from", "scratch")
    try:
        _buildah("add", "--quiet", container, str(tree), "/")
        _buildah("config", "--env=PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", container)
        _buildah("commit", "--quiet", container, OWN_BASE)
    finally:
        _buildah("rm", container)


def save(image: str, folder: Path) -> Path:
    """Write an image of buildah's as an archive that keeps its name."""
    archive = folder / f"{re.sub('[^a-z0-9.-]', '_', image)}.tar"  # a colon would end the path
    with step(f"saving {image}"):
        _buildah("push", "--quiet", image, f"docker-archive:{archive}:{image}")
    return archive


def _buildah(*arguments: str) -> str:
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"buildah {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def build(wish: Wish) -> None:
    if wish.arguments["BASE_IMAGE"] == OWN_BASE and not _buildah("images", "--quiet", "--filter=reference=" + OWN_BASE):
        with step(f"making {OWN_BASE}"):
            make_base()
    for image in DOCKERFILES:
        print(f"building {wish.reference(image)}", flush=True)
        if subprocess.run(wish.argv(image), cwd=CLONE).returncode:
            raise ClusterError(f"{DOCKERFILES[image]} does not build: see above")


def main() -> None:
    wish = Wish.read(os.environ)
    try:
        build(wish)
    except ClusterError as error:
        sys.exit(f"images: {error}")
    for image in DOCKERFILES:
        print(f"buildah push {wish.reference(image)}")


if __name__ == "__main__":
    main()
