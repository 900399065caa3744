"""Compile the pinned Go commands a cluster is made of, once per version."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.home import CLONE, Home
from nemotron_devcluster.progress import step

SOURCES = CLONE / "devcluster/go"
MINIMUM_GO = (1, 26, 4)


@dataclass(frozen=True, slots=True)
class Module:
    """A folder with its own go.mod (the versions of two such would clash in one) and the commands built from it."""

    name: str
    commands: Mapping[str, str]
    """Name of the executable -> Go package."""

    @property
    def source(self) -> Path:
        return SOURCES / self.name

    @property
    def key(self) -> str:
        """Names the sources: go.mod and go.sum pin every dependency, *.go is ours."""
        digest = hashlib.sha256(" ".join(self.commands).encode())
        for path in sorted([*self.source.glob("go.*"), *self.source.glob("*.go")]):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:12]


def _commands(prefix: str, *names: str) -> Mapping[str, str]:
    return MappingProxyType({name: f"{prefix}/{name}" for name in names})


KUBERNETES = Module(
    "kubernetes",
    _commands(
        "k8s.io/kubernetes/cmd",
        "kubectl",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
    ),
)
ETCD = Module("etcd", MappingProxyType({"etcd": "go.etcd.io/etcd/server/v3"}))
COREDNS = Module("coredns", MappingProxyType({"coredns": "."}))
METRICS_SERVER = Module("metrics-server", _commands("sigs.k8s.io/metrics-server/cmd", "metrics-server"))
PAUSE = Module("pause", MappingProxyType({"pause": "."}))
HELM = Module("helm", _commands("helm.sh/helm/v4/cmd", "helm"))
MODULES = (PAUSE, ETCD, KUBERNETES, COREDNS, METRICS_SERVER, HELM)
FOR_PEOPLE = ("kubectl", "helm")


@dataclass(frozen=True, slots=True)
class Tools:
    """The compiled commands."""

    home: Home

    def path(self, command: str) -> Path:
        """Where a command is once `build` ran."""
        for module in MODULES:
            if command in module.commands:
                return self.home.tools / f"{module.name}-{module.key}" / command
        raise ClusterError(f"{command} is built by no module under devcluster/go")

    def build(self) -> None:
        """Compile what is missing; Kubernetes takes minutes the first time, nothing after that."""
        for module in MODULES:
            for command, package in module.commands.items():
                if not self.path(command).exists():
                    with step(f"building {command}"):
                        self._compile(module, command, package)
        self.home.bin.mkdir(parents=True, exist_ok=True)
        for command in FOR_PEOPLE:
            _relink(self.home.bin / command, self.path(command))

    def _compile(self, module: Module, command: str, package: str) -> None:
        target = self.path(command)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(".unfinished")
        flags = ("-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {_version_flag(module)}")
        argv = [_go(self.home), "build", *flags, "-o", str(unfinished), package]
        # Without cgo the commands are static: CoreDNS and metrics-server run in images that hold nothing else.
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
        done = subprocess.run(argv, cwd=module.source, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise ClusterError(f"{command} does not build from {module.source}:\n{done.stderr[-4000:]}")
        unfinished.rename(target)


def _version_flag(module: Module) -> str:
    """Kubernetes reads its version from a variable the linker sets; without it, the API server says v0.0.0."""
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (module.source / "go.mod").read_text())
    return f"-X k8s.io/component-base/version.gitVersion={found[1]}" if found else ""


def _go(home: Home) -> str:
    for candidate in (shutil.which("go"), str(home.root / "go/go/bin/go")):
        if candidate and Path(candidate).exists() and _go_version(candidate) >= MINIMUM_GO:
            return candidate
    wanted = ".".join(map(str, MINIMUM_GO))
    raise ClusterError(f"no Go {wanted} or newer here: run `make cluster-up`, which installs it")


def _go_version(go: str) -> tuple[int, ...]:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    out = subprocess.run([go, "version"], capture_output=True, text=True, env=environment).stdout
    found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", out)
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)


def _relink(link: Path, target: Path) -> None:
    if not link.is_symlink() or link.readlink() != target:
        link.unlink(missing_ok=True)
        link.symlink_to(target)
