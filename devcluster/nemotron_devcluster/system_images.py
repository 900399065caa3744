"""Make the images of the cluster's own pods: each is one static command."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from nemotron_devcluster.image import Image
from nemotron_devcluster.layer import Layer
from nemotron_devcluster.tools import COREDNS, METRICS_SERVER, PAUSE, Module, Tools


def pause(tools: Tools) -> Image:
    """The container that holds a pod's namespaces."""
    return _command_image(tools, PAUSE, "pause")


def coredns(tools: Tools) -> Image:
    return _command_image(tools, COREDNS, "coredns")


def metrics_server(tools: Tools) -> Image:
    return _command_image(tools, METRICS_SERVER, "metrics-server")


def _command_image(tools: Tools, module: Module, command: str) -> Image:
    layer = Layer(command, module.key, _copy_into_root(tools.path(command)))
    return Image(f"localhost/{command}", (layer,), entrypoint=(f"/{command}",), user="65532:65532")


def _copy_into_root(command: Path) -> Callable[[Path], None]:
    def build(tree: Path) -> None:
        shutil.copy(command, tree / command.name)
        os.chmod(tree / command.name, 0o755)

    return build
