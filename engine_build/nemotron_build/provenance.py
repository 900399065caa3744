"""Say what made an artifact: library versions and facts of the host."""

import os
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("nemotron-operator", "torch", "numpy", "safetensors", "tokenizers")


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of those packages that are installed as distributions; images may carry ours as source."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def host() -> dict[str, str]:
    """The machine, as far as it can matter to what an engine computes."""
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"
