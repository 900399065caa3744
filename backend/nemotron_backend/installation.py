"""Find the Triton server on this machine."""

import importlib.util
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy

from nemotron_api.errors import EngineMismatch

CONTAINER: Final = Path("/opt/tritonserver")
"""Where NVIDIA's images keep their server."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A Triton server: its binary, its backends and the folders its libraries lie in."""

    binary: Path
    backends: Path
    libraries: tuple[Path, ...]


def find(scratch: Path, container: Path = CONTAINER, numpy_version: str = numpy.__version__) -> Installation:
    """The image's own server, else the one of the Python package; `scratch` is a writable folder.

    Raises EngineMismatch where neither is, or where it cannot work with this environment.
    """
    # Without it the stub finds the system's libpython beside this interpreter's standard library.
    libpython = Path(sysconfig.get_config_var("LIBDIR"))
    if (container / "bin" / "tritonserver").is_file():
        return Installation(container / "bin" / "tritonserver", container / "backends", (libpython,))
    package = importlib.util.find_spec("pytriton")
    if package is None or not package.submodule_search_locations:
        raise EngineMismatch("no Triton server is installed: install the extra 'server', or use an image that has one")
    if not numpy_version.startswith("1."):
        # Its Python backend hands the arrays of numpy 2 over with other content, in silence.
        raise EngineMismatch(
            f"the installed Triton server needs numpy 1; this is {numpy_version}: install numpy 1.26.4"
        )
    root = Path(package.submodule_search_locations[0])
    backends = _link_python_backend(root / "tritonserver", scratch / "backends")
    libraries = root.parent / "nvidia_pytriton.libs"
    return Installation(root / "tritonserver" / "bin" / "tritonserver", backends, (libraries, libpython))


def _link_python_backend(server: Path, backends: Path) -> Path:
    """The package keeps a stub per Python version aside; the server wants this version's beside the backend."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.is_file():
        raise EngineMismatch(f"the installed Triton server has no stub for Python {version}: use Python 3.11 or 3.12")
    python = backends / "python"
    python.mkdir(parents=True)
    library = server / "backends" / "python"
    for source in (library / "libtriton_python.so", library / "triton_python_backend_utils.py", stub):
        (python / source.name).symlink_to(source)
    return backends
