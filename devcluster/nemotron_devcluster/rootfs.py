"""Make the Debian root file system under our images."""

import hashlib
import subprocess
from pathlib import Path

from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.layer import Layer

SUITE = "bookworm"
PACKAGES = ("python3", "libpython3.11", "ca-certificates")  # the server's Python stub is linked with libpython
USER = 65532
ACCOUNTS = {
    "etc/passwd": f"nemotron:x:{USER}:{USER}:nemotron:/tmp:/usr/sbin/nologin\n",
    "etc/group": f"nemotron:x:{USER}:\n",
}
UNUSED = ("dev", "var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man", "usr/share/locale")
KEPT = "copyright"  # the licence of each package stays in usr/share/doc


def layer() -> Layer:
    inputs = " ".join([SUITE, *PACKAGES, *ACCOUNTS.values(), *UNUSED])
    return Layer(f"debian-{SUITE}", hashlib.sha256(inputs.encode()).hexdigest()[:12], _build)


def _build(tree: Path) -> None:
    include = f"--include={','.join(PACKAGES)}"
    argv = ["debootstrap", "--variant=minbase", include, SUITE, str(tree), _mirror()]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise ClusterError(f"debootstrap failed:\n{done.stdout[-2000:]}")
    for name in UNUSED:
        _empty(tree / name)
    for name, line in ACCOUNTS.items():
        with (tree / name).open("a") as file:
            file.write(line)


def _mirror() -> str:
    """Where apt on this machine gets Debian from."""
    fields = "$(ORIGIN) $(CODENAME) $(COMPONENT) $(REPO_URI)"
    argv = ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]
    for line in subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines():
        match line.split():
            case ["Debian", codename, "main", uri] if codename == SUITE:
                return uri
    raise ClusterError(
        f"apt on this machine knows no Debian {SUITE}: local images are made on Debian 12; "
        "elsewhere push what `make images` builds to a registry and set CLUSTER=existing"
    )


def _empty(directory: Path) -> None:
    """Delete what is in a folder, but licences and the folder itself."""
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            _empty(path)
            if not any(path.iterdir()):
                path.rmdir()
        elif path.name != KEPT:
            path.unlink()
