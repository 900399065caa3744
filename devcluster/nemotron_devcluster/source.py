"""Put the project's own code into an image: a layer so small that a change reaches a pod at once."""

import hashlib
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemotron_devcluster import environment
from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.home import CLONE
from nemotron_devcluster.layer import Layer

DIRECTORY = "opt/nemotron/src"
COMMANDS = "opt/nemotron/bin"
GENERATED = "__pycache__"


@dataclass(frozen=True, slots=True)
class Source:
    """Some of the project's packages, with the commands they define."""

    name: str
    packages: tuple[str, ...]

    def layer(self) -> Layer:
        digest = hashlib.sha256(repr((_project()["version"], sorted(self._commands().items()))).encode())
        for path, file in self._files():
            digest.update(f"{path}\0".encode() + file.read_bytes())
        return Layer(f"source-{self.name}", digest.hexdigest()[:12], self._build)

    def _build(self, tree: Path) -> None:
        root = tree / DIRECTORY
        for path, file in self._files():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
        _compile(root, tree)
        self._write_metadata(root)
        for command, function in self._commands().items():
            self._write_command(tree / COMMANDS / command, function)

    def _write_metadata(self, root: Path) -> None:
        """Let `importlib.metadata` know the project's version, as an installed package would."""
        project = _project()
        information = root / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        information.mkdir()
        content = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        (information / "METADATA").write_text(content)

    def _write_command(self, path: Path, function: str) -> None:
        module, _, name = function.partition(":")
        path.parent.mkdir(parents=True, exist_ok=True)
        shebang = f"#!{environment.DIRECTORY}/bin/python3"
        path.write_text(f"{shebang}\nimport sys\n\nfrom {module} import {name}\n\nsys.exit({name}())\n")
        path.chmod(0o755)

    def _commands(self) -> dict[str, str]:
        """The project's console scripts that live in these packages."""
        scripts: dict[str, str] = _project()["scripts"]
        return {name: function for name, function in scripts.items() if function.split(".")[0] in self.packages}

    def _files(self) -> list[tuple[Path, Path]]:
        """Every file as (path below the source root, path on this machine), in a fixed order."""
        found = []
        for package in self.packages:
            folder = next(CLONE.glob(f"*/{package}"))
            for file in sorted(folder.rglob("*")):
                if file.is_file() and GENERATED not in file.parts:
                    found.append((file.relative_to(folder.parent), file))
        return found


def _compile(root: Path, tree: Path) -> None:
    """Byte code made by the image's own Python, checked against nothing: the layer's name says what it was made of."""
    options = ("-q", "--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", "/")
    done = subprocess.run([environment.PYTHON, "-m", "compileall", *options, str(root)], capture_output=True, text=True)
    if done.returncode:
        raise ClusterError(f"the code does not compile, so it makes no image:\n{done.stdout}")


def _project() -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
    return content
