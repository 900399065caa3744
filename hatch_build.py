"""Have every build of the package, the editable one too, compile the CPU kernels."""

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LIBRARY = "kernels/nemotron_kernels/native/libnemotron_cpu.so"


class CpuKernels(BuildHookInterface):
    """Compiles `kernels/csrc` into the package of kernels, where an editable install finds it, too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        runpy.run_path(str(root / "kernels/csrc/build.py"))["build"](root / LIBRARY)
        if (root / LIBRARY).exists():
            # git ignores the library, and so would the wheel; it is for this machine's kind, and for any Python.
            build_data["artifacts"].append(LIBRARY)
            build_data["pure_python"] = False
            build_data["tag"] = "py3-none-linux_x86_64"
