"""The controller learns of what no watch announces."""

import asyncio
from typing import Any

import pytest

from nemotron_operator import controller as module
from nemotron_operator.controller import Controller
from nemotron_operator.objects import DEPLOYMENT, Kind, Ref
from nemotron_operator.settings import Settings

pytestmark = pytest.mark.unit


class Lists:
    """An API server that can only list."""

    def __init__(self, *bodies: dict[str, Any]) -> None:
        self.bodies = list(bodies)

    async def list(self, kind: Kind, namespace: str = "", selector: str = "") -> list[dict[str, Any]]:
        return [body for body in self.bodies if body["kind"] == kind.kind]


def a_workload(name: str) -> dict[str, Any]:
    meta = {"name": name, "namespace": "default", "uid": name, "resourceVersion": "7", "labels": {}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {}}


async def test_an_object_that_went_before_the_watch_began_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_RELISTS_SECONDS", (0.0,))
    server = Lists(a_workload("old"), a_workload("new"))
    controller = Controller(Settings(runtime_image="backend:1"))
    await controller._list(server)  # type: ignore[arg-type]

    del server.bodies[0]  # no watch was there to see it go
    relisting = asyncio.create_task(controller._relist(server))  # type: ignore[arg-type]
    await asyncio.sleep(0.05)
    relisting.cancel()

    assert controller.store.versions(DEPLOYMENT.kind).keys() == {Ref("Deployment", "default", "new")}
