"""Name the project's own images and say what is in them."""

from nemotron_devcluster import rootfs
from nemotron_devcluster.environment import Environment
from nemotron_devcluster.home import Home
from nemotron_devcluster.image import Image
from nemotron_devcluster.source import Source

VARIABLES = {
    "PATH": "/opt/nemotron/bin:/opt/nemotron/venv/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "LANG": "C.UTF-8",
    "HOME": "/tmp",
}

OPERATOR = Environment("operator", ("operator",))
# triton compiles GPU kernels: a gigabyte that a node without GPU never loads.
BACKEND = Environment("backend", ("build", "backend", "server"), without=("triton",))

OPERATOR_SOURCE = Source("operator", ("nemotron_api", "nemotron_operator", "nemotron_autoscaler"))
BACKEND_SOURCE = Source(
    "backend", ("nemotron_api", "nemotron_build", "nemotron_runtime", "nemotron_backend", "nemotron_kernels")
)


def operator(home: Home) -> Image:
    return _image("operator", OPERATOR, OPERATOR_SOURCE, home, "nemotron-operator")


def backend(home: Home) -> Image:
    """Serves, and builds engines: both need the same libraries, and an engine is only good where it was built."""
    return _image("backend", BACKEND, BACKEND_SOURCE, home, "nemotron-serve")


def _image(name: str, environment: Environment, source: Source, home: Home, command: str) -> Image:
    return Image(
        f"localhost/nemotron-{name}",
        (rootfs.layer(), environment.layer(home), source.layer()),
        entrypoint=(f"/opt/nemotron/bin/{command}",),
        environment=VARIABLES,
        user=f"{rootfs.USER}:{rootfs.USER}",
    )
