"""Know where everything lives: caches that outlive a cluster, and the one running cluster's own folder."""

import os
from dataclasses import dataclass
from pathlib import Path

CLONE = Path(__file__).resolve().parents[2]
"""The working copy these sources belong to."""


@dataclass(frozen=True, slots=True)
class Home:
    """The project's folder below the user's cache directory: shared by all clones, so a second clone starts warm."""

    root: Path

    @property
    def tools(self) -> Path:
        """Compiled commands, one folder per module and version of its go.mod."""
        return self.root / "tools"

    @property
    def bin(self) -> Path:
        """Links to the newest commands, for people: kubectl, helm."""
        return self.root / "bin"

    @property
    def layers(self) -> Path:
        """Trees that images are stacked from, named by content."""
        return self.root / "layers"

    @property
    def cluster(self) -> Path:
        """Everything of the running cluster; gone when it is down."""
        return self.root / "cluster"

    @property
    def kubeconfig(self) -> Path:
        return self.cluster / "admin.conf"

    @property
    def audit_log(self) -> Path:
        return self.cluster / "audit.log"


def home() -> Home:
    """The folder that XDG_CACHE_HOME asks for."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Home(cache / "nemotron")
