"""What the end-to-end tests do over and over: talk to the cluster, wait for things, keep requests flowing."""

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from examples.client import GenerationError, Patience, connect, stream

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "examples/tiny/checkpoint"
CLUSTER_DNS = "10.96.0.10:53"


class CommandFailed(Exception):
    """A command ended with an error; its text is what a user would read."""


@dataclass(frozen=True, slots=True)
class Kube:
    """kubectl in one namespace."""

    kubectl: Path
    kubeconfig: Path
    namespace: str

    def run(self, *arguments: str, text: str | None = None, seconds: float = 180) -> str:
        argv = [str(self.kubectl), "--kubeconfig", str(self.kubeconfig), "-n", self.namespace, *arguments]
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=seconds)
        if done.returncode:
            raise CommandFailed(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *manifests: dict[str, Any]) -> str:
        return self.run("apply", "-f", "-", text=yaml.safe_dump_all(manifests))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.run("get", kind, name, "-o", "json"))
        return body

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("get", kind, "-l", selector, "-o", "json"))["items"]
        return found

    def conditions(self, name: str) -> dict[str, dict[str, Any]]:
        return {c["type"]: c for c in self.get("nd", name).get("status", {}).get("conditions", ())}

    def wait_ready(self, name: str, seconds: float = 240) -> None:
        """Until Ready speaks of the current generation, or fail with everything the object says."""

        def ready() -> bool:
            body = self.get("nd", name)
            conditions = {c["type"]: c for c in body.get("status", {}).get("conditions", ())}
            current = conditions.get("Ready", {})
            generation = body["metadata"]["generation"]
            return bool(current.get("status") == "True" and current.get("observedGeneration") == generation)

        wait_for(ready, seconds, lambda: self.story(name))

    def story(self, name: str) -> str:
        """What a person would look at to understand why a deployment is not where it should be."""
        parts = [self.run("describe", "nd", name), self.run("get", "na,job,pod,deploy", "-o", "wide")]
        for pod in self.items("pod"):
            parts.append(f"--- {pod['metadata']['name']}\n" + self._logs(pod["metadata"]["name"]))
        return "\n".join(parts)

    def _logs(self, pod: str) -> str:
        try:
            return self.run("logs", pod, "--tail=15")
        except CommandFailed as error:
            return str(error)


def wait_for(holds: Callable[[], bool], seconds: float, story: Callable[[], str] = lambda: "") -> None:
    """Until it holds.

    Raises:
        AssertionError: it did not within `seconds`; the story tells what was there instead.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return
        time.sleep(0.25)
    raise AssertionError(f"{getattr(holds, '__name__', holds)} did not hold within {seconds} s\n{story()}")


def a_deployment(name: str, **spec: Any) -> dict[str, Any]:
    """The tiny model with small pools and short drains; `spec` replaces or adds fields."""
    base: dict[str, Any] = {
        "model": {"name": "tiny", "source": {"uri": "pvc://models/tiny"}},
        "engine": {"precision": "FP32", "limits": {"maxSequenceTokens": 1024, "maxBatch": 4}},
        "cache": {"claimName": "models"},
        "disruption": {"drain": {"deadline": "60s"}},
    }
    return {
        "apiVersion": "serving.nemotron.dev/v1alpha1",
        "kind": "NemotronDeployment",
        "metadata": {"name": name},
        "spec": base | spec,
    }


@dataclass(slots=True)
class Outcome:
    """What became of the requests of one `Traffic`."""

    completed: int = 0
    tokens: int = 0
    failures: list[str] = field(default_factory=list)
    failed_after: list[float] = field(default_factory=list)
    """Seconds between a failed request's last sign of life and its failure."""


class Traffic:
    """Clients that stream one request after the other until told to stop, each over a channel of its own."""

    def __init__(self, url: str, clients: int, tokens: int, retries: int) -> None:
        self._url, self._clients, self._tokens, self._retries = url, clients, tokens, retries
        self._stop = threading.Event()
        self.outcome = Outcome()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> Outcome:
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "a request hangs"
        return self.outcome

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(number) for number in range(self._clients)))

    async def _one(self, number: int) -> None:
        async with connect(self._url) as client:
            turn = 0
            while not self._stop.is_set():
                turn += 1
                settings = {"text_input": f"The license {number} ", "max_tokens": self._tokens, "ignore_eos": True}
                await self._request(client, {**settings, "temperature": 1.0, "seed": turn})

    async def _request(self, client: Any, settings: dict[str, Any]) -> None:
        alive = time.monotonic()
        count = 0
        try:
            async for chunk in stream(client, "tiny", settings, Patience(retries=self._retries, between_chunks=30.0)):
                alive, count = time.monotonic(), chunk.completion_tokens
        except GenerationError as error:
            self.outcome.failures.append(str(error))
            self.outcome.failed_after.append(time.monotonic() - alive)
            await asyncio.sleep(0.2)
            return
        if count != self._tokens:
            self.outcome.failures.append(f"{count} of {self._tokens} tokens came")
            return
        self.outcome.completed += 1
        self.outcome.tokens += count


@contextmanager
def traffic(namespace: str, name: str, clients: int = 3, tokens: int = 60, retries: int = 5) -> Iterator[Traffic]:
    """Requests against `<name>-pods` while the block runs."""
    flowing = Traffic(url(namespace, name), clients, tokens, retries)
    flowing.start()
    try:
        yield flowing
    finally:
        flowing.stop()


def url(namespace: str, name: str) -> str:
    """Where the replicas are, asked of the cluster's own DNS."""
    return f"dns://{CLUSTER_DNS}/{name}-pods.{namespace}.svc.cluster.local:8001"


def generate(namespace: str, name: str, **settings: Any) -> tuple[str, list[int]]:
    """One request's whole answer."""

    async def whole() -> tuple[str, list[int]]:
        text, tokens = "", list[int]()
        async with connect(url(namespace, name)) as client:
            async for chunk in stream(client, "tiny", settings):
                text += chunk.text
                tokens += chunk.token_ids
        return text, tokens

    return asyncio.run(whole())


def names(items: Sequence[dict[str, Any]]) -> set[str]:
    return {item["metadata"]["name"] for item in items}
