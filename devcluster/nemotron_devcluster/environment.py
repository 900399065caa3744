"""Install the locked Python packages of an image as one layer."""

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.home import CLONE, Home
from nemotron_devcluster.layer import Layer

PYTHON = "/usr/bin/python3.11"  # that of rootfs.SUITE, at the same path there and on the machine that builds
DIRECTORY = "/opt/nemotron/venv"
SOURCE = "/opt/nemotron/src"  # where the layer above this one puts the project's own packages


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with some of the project's extras, as uv.lock pins them."""

    name: str
    extras: tuple[str, ...]
    without: tuple[str, ...] = ()
    """Locked packages that this image can do without."""

    def layer(self, home: Home) -> Layer:
        words = " ".join((PYTHON, SOURCE, *self.extras, "-", *self.without))
        inputs = [(CLONE / "uv.lock").read_bytes(), words.encode()]
        key = hashlib.sha256(b"".join(inputs)).hexdigest()[:12]
        return Layer(f"environment-{self.name}", key, lambda tree: self._build(tree, home))

    def _build(self, tree: Path, home: Home) -> None:
        if not Path(PYTHON).exists():
            raise ClusterError(f"local images are made with Debian 12's {PYTHON}, which this machine lacks")
        target = tree / DIRECTORY.lstrip("/")
        uv = str(home.root / "uv/bin/uv")
        # Relocatable: its scripts find their Python beside them, wherever the tree is mounted.
        _run(uv, "venv", "--relocatable", "--python", PYTHON, str(target))
        extras = [f"--extra={extra}" for extra in self.extras]
        without = [f"--no-install-package={package}" for package in self.without]
        # Compiled ahead, as containers have read-only file systems: without it every start compiles torch again.
        sync = ("sync", "--frozen", "--no-dev", "--no-install-project", "--compile-bytecode", "--quiet")
        _run(uv, *sync, *extras, *without, "--project", str(CLONE), environment={"UV_PROJECT_ENVIRONMENT": str(target)})
        # A path file, not PYTHONPATH: Triton's stub, which embeds Python, finds the environment but not that variable.
        (packages,) = target.glob("lib/python*/site-packages")
        (packages / "nemotron.pth").write_text(f"{SOURCE}\n")


def _run(*argv: str, environment: dict[str, str] | None = None) -> None:
    isolated = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(argv, capture_output=True, text=True, env=isolated | (environment or {}))
    if done.returncode:
        raise ClusterError(f"{' '.join(argv)} failed:\n{done.stderr[-2000:]}")
