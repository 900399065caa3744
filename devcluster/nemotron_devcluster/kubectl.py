"""Run kubectl and helm as a user would, and raise what they say when they fail."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemotron_devcluster.errors import ClusterError


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Both commands, against one cluster and one namespace."""

    bin: Path | None
    """Folder of kubectl and helm; None to take them from PATH."""
    kubeconfig: Path | None
    """None for the user's current one."""
    namespace: str

    def run(self, *arguments: str, text: str | None = None) -> str:
        """kubectl's output.

        Raises:
            ClusterError: it failed; the text is its own.
        """
        return self._run("kubectl", arguments, text)

    def helm(self, *arguments: str) -> str:
        return self._run("helm", arguments, None)

    def get(self, kind: str, name: str) -> Mapping[str, Any]:
        body: Mapping[str, Any] = json.loads(self.run("get", kind, name, "-o", "json"))
        return body

    def lines(self, *arguments: str) -> Iterator[str]:
        """kubectl's output as it comes, byte by byte where it is text without line ends."""
        process = subprocess.Popen(self.argv("kubectl", arguments), stdout=subprocess.PIPE, env=self.environment())
        assert process.stdout
        while chunk := os.read(process.stdout.fileno(), 4096):
            yield chunk.decode(errors="replace")
        if process.wait():
            raise ClusterError(f"kubectl {' '.join(arguments)} ended with code {process.returncode}")

    def _run(self, command: str, arguments: tuple[str, ...], text: str | None) -> str:
        argv = self.argv(command, arguments)
        done = subprocess.run(argv, input=text, capture_output=True, text=True, env=self.environment())
        if done.returncode:
            raise ClusterError(f"{command} {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def argv(self, command: str, arguments: tuple[str, ...]) -> list[str]:
        return [str(self.bin / command) if self.bin else command, "-n", self.namespace, *arguments]

    def environment(self) -> dict[str, str]:
        return {**os.environ, **({"KUBECONFIG": str(self.kubeconfig)} if self.kubeconfig else {})}
