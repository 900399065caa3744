"""Install the chart with images a cluster has, as `helm install` would by hand."""

from collections.abc import Mapping
from dataclasses import dataclass

from nemotron_devcluster.home import CLONE
from nemotron_devcluster.kubectl import Kubectl

CHART = CLONE / "charts/nemotron-operator"
NAMESPACE = "nemotron-system"


@dataclass(frozen=True, slots=True)
class Images:
    """References of the two images, as pods name them."""

    operator: str
    backend: str

    def values(self) -> tuple[str, ...]:
        repository, _, tag = self.operator.rpartition(":")
        return (
            f"--set=image.repository={repository}",
            f"--set-string=image.tag={tag}",
            f"--set=runtime.image={self.backend}",
        )


def install(kubectl: Kubectl, images: Images, name: str, settings: Mapping[str, str]) -> str:
    """Install or upgrade the release and wait until its operator works; returns the chart's notes."""
    chosen = [f"--set={key}={value}" for key, value in settings.items()]
    flags = ("--create-namespace", "--wait", "--timeout=120s", "--namespace", NAMESPACE)
    return kubectl.helm("upgrade", "--install", name, str(CHART), *flags, *images.values(), *chosen)
