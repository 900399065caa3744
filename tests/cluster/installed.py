"""Install, kill and remove the operator, as tests do to it."""

from dataclasses import dataclass

from nemotron_devcluster.kubectl import Kubectl
from nemotron_devcluster.release import NAMESPACE, install
from tests.cluster.live import LiveCluster

# Short connections and fast retries: the same behaviour, in a test's time.
VALUES = {"connectionAgeSeconds": "4", "retryBaseSeconds": "2"}


@dataclass(slots=True)
class Installed:
    """The operator as Helm installed it."""

    cluster: LiveCluster
    name: str = ""
    """Of the release."""

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.cluster.local.home.bin, self.cluster.kubeconfig, NAMESPACE)

    def install(self, name: str) -> None:
        """Under this release name, and wait until it works."""
        self.name = name
        install(self.kubectl, self.cluster.images, name, VALUES)

    def remove_others(self) -> None:
        """What an earlier, interrupted run left: two operators would undo each other's work."""
        for name in self.kubectl.helm("list", "--short").split():
            self.kubectl.helm("uninstall", name, "--wait")

    def uninstall(self) -> None:
        self.kubectl.helm("uninstall", self.name, "--wait")

    def kill(self) -> None:
        """End it without a chance to say goodbye; its Deployment starts another."""
        selector = "app.kubernetes.io/name=nemotron-operator"
        self.kubectl.run("delete", "pod", "-l", selector, "--force", "--grace-period=0")
