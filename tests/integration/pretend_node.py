"""Pretend to be the nodes of one namespace: pods run, Jobs end with a message, Services answer with a token."""

import asyncio
import itertools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from nemotron_api import names
from nemotron_api.build import BUILD_REQUEST, Success
from nemotron_api.record import sha256_of
from nemotron_operator.objects import POD, SERVICE, Manifest
from tests.integration.control_plane import Api, Refusal

_STEP_SECONDS = 0.05
_ADDRESSES = (f"127.65.{i // 250}.{i % 250 + 1}" for i in itertools.count())

End = tuple[int, str]
"""Exit code and termination message of a Job's container."""


def sealed(request: Mapping[str, Any]) -> End:
    """What a Job says that made what it was asked for."""
    fingerprint = BUILD_REQUEST.validate_python(request).fingerprint
    digest = f"sha256:{sha256_of({'content of': fingerprint})}"
    success = Success(
        fingerprint=fingerprint, manifest_sha256=sha256_of({"of": fingerprint}), digest=digest, bytes=7, seconds=1
    )
    return 0, success.to_json()


def failed(reason: str, message: str) -> Callable[[Mapping[str, Any]], End]:
    return lambda request: (1, json.dumps({"reason": reason, "message": message}))


def running_for_ever(request: Mapping[str, Any]) -> None:
    return None


@dataclass
class PretendNode:
    """What pods of one namespace do; change the fields to change it."""

    api: Api
    namespace: str
    jobs: Callable[[Mapping[str, Any]], End | None] = sealed
    servers_start: bool = True
    broken_images: frozenset[str] = frozenset()
    answers: bool = True
    """Whether Services give a token."""
    waiting: int = 0
    """Waiting requests that every server's metrics tell of."""
    tells_metrics: bool = True
    fewest_ready: dict[str, int] = field(default_factory=dict)
    """The fewest ready servers of each deployment since it was set; set to a large number to begin."""
    questions: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _ready: dict[str, str] = field(default_factory=dict)
    _services: dict[str, str] = field(default_factory=dict)
    _bound: set[tuple[str, int]] = field(default_factory=set)

    def __enter__(self) -> "PretendNode":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name=f"node of {self.namespace}")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _live(self) -> None:
        app = web.Application()
        app.router.add_get(names.TOKEN_PATH, self._token)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        while not self._stop.is_set():
            try:
                wanted = await asyncio.to_thread(self._step)
            except (Refusal, OSError):  # a pod went between two requests, or the API server restarts
                wanted = set()
            for address in wanted - self._bound:
                await web.TCPSite(runner, *address).start()
                self._bound.add(address)
            await asyncio.sleep(_STEP_SECONDS)
        await runner.cleanup()

    def _step(self) -> set[tuple[str, int]]:
        """Move every pod on by one step; the addresses that must answer now."""
        pods = self.api.list(POD, self.namespace)
        self._ready = {p["metadata"]["name"]: label(p) for p in pods if is_ready(p)}
        for name, fewest in self.fewest_ready.items():
            self.fewest_ready[name] = min(fewest, list(self._ready.values()).count(name))
        for pod in pods:
            if change := self._next_status(pod):
                self.api.patch(POD, self.namespace, pod["metadata"]["name"], {"status": change}, "status")
        services = [s["spec"] for s in self.api.list(SERVICE, self.namespace) if s["spec"]["clusterIP"] != "None"]
        self._services = {s["clusterIP"]: s.get("selector", {}).get(names.NAME_LABEL, "") for s in services}
        servers = {(p["status"]["podIP"], names.METRICS_PORT) for p in pods if is_ready(p)}
        return servers | {(address, names.HEALTH_PORT) for address in self._services}

    def _next_status(self, pod: Manifest) -> dict[str, Any] | None:
        phase = pod["status"].get("phase", "Pending")
        if pod["metadata"]["labels"].get(names.COMPONENT_LABEL) == names.SERVER:
            image = pod["spec"]["containers"][0]["image"]
            if phase != "Pending" or not self.servers_start or image in self.broken_images:
                return None
            return serving(next(_ADDRESSES))
        if phase == "Pending":
            return {"phase": "Running"}
        command = pod["spec"]["containers"][0]["command"]
        end = self.jobs(json.loads(command[command.index("--request") + 1])) if phase == "Running" else None
        return ended(*end) if end else None

    async def _token(self, request: web.Request) -> web.Response:
        self.questions += 1
        name = self._services.get(_asked_address(request), "")
        if not self.answers or name not in self._ready.values():
            return web.Response(text="no replica is ready\n", status=503)
        return web.Response(text="ok\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        if not self.tells_metrics:
            raise web.HTTPServiceUnavailable
        values = {"waiting_requests": self.waiting, "state_slots_used": 0, "state_slots_total": 10}
        return web.Response(text="".join(f"nemotron_{name} {value}\n" for name, value in values.items()))


def _asked_address(request: web.Request) -> str:
    assert request.transport
    return str(request.transport.get_extra_info("sockname")[0])


def label(pod: Manifest) -> str:
    return str(pod["metadata"]["labels"].get(names.NAME_LABEL, ""))


def is_ready(pod: Manifest) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


_MOMENT = "2026-01-01T00:00:00Z"


def serving(address: str) -> dict[str, Any]:
    """The status of a server that is ready."""
    conditions = [{"type": t, "status": "True", "lastTransitionTime": _MOMENT} for t in ("ContainersReady", "Ready")]
    state = {"running": {"startedAt": _MOMENT}}
    ips = {"podIP": address, "podIPs": [{"ip": address}]}
    return {"phase": "Running", "conditions": conditions, "containerStatuses": [_container("server", state)], **ips}


def ended(code: int, message: str) -> dict[str, Any]:
    """The status of a Job's pod that ended."""
    terminated = {
        "exitCode": code,
        "reason": "Error" if code else "Completed",
        "message": message,
        "finishedAt": _MOMENT,
    }
    containers = [_container("builder", {"terminated": terminated})]
    return {"phase": "Failed" if code else "Succeeded", "containerStatuses": containers}


def _container(name: str, state: dict[str, Any]) -> dict[str, Any]:
    ready = "running" in state
    return {"name": name, "image": "i", "imageID": "i", "ready": ready, "restartCount": 0, "state": state}
