"""See a namespace as its user does, and count what the operator writes there."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nemotron_api import names
from nemotron_operator.objects import NA, ND, POD, Kind, Manifest
from tests.integration.control_plane import PATIENCE_SECONDS, Api, ControlPlane
from tests.integration.operator_process import OperatorProcess
from tests.integration.pretend_node import PretendNode


@dataclass
class World:
    """One namespace: what a user does there, and what can be seen."""

    plane: ControlPlane
    operator: OperatorProcess
    node: PretendNode
    namespace: str

    @property
    def api(self) -> Api:
        return self.plane.admin

    def deploy(self, name: str = "nano", **spec: Any) -> Manifest:
        model = {"name": "tiny", "source": {"uri": "pvc://models/tiny"}}
        meta = {"name": name, "namespace": self.namespace}
        body = {"apiVersion": names.API_VERSION, "kind": ND.kind, "metadata": meta, "spec": {"model": model, **spec}}
        return self.api.create(body)

    def change(self, spec: dict[str, Any], name: str = "nano") -> Manifest:
        return self.api.patch(ND, self.namespace, name, {"spec": spec})

    def servers(self) -> list[Manifest]:
        """Pods that serve, ready or not."""
        pods = self.api.list(POD, self.namespace)
        return [pod for pod in pods if pod["metadata"]["labels"].get(names.COMPONENT_LABEL) == names.SERVER]

    def count(self, kind: Kind, label: str) -> int:
        """Objects of a kind that carry a label."""
        return sum(label in body["metadata"].get("labels", {}) for body in self.api.list(kind, self.namespace))

    def status(self, name: str = "nano") -> dict[str, Any]:
        status: dict[str, Any] = self.api.get(ND, self.namespace, name).get("status", {})
        return status

    def condition(self, type_: str = names.READY, name: str = "nano") -> str:
        """`False/Building`, of the current generation; empty while the operator has not spoken of it."""
        body = self.api.get(ND, self.namespace, name)
        for c in body.get("status", {}).get("conditions", ()):
            if c["type"] == type_ and c["observedGeneration"] == body["metadata"]["generation"]:
                return f"{c['status']}/{c['reason']}"
        return ""

    def message(self, type_: str = names.READY, name: str = "nano") -> str:
        return next((c["message"] for c in self.status(name).get("conditions", ()) if c["type"] == type_), "")

    def until(self, holds: Callable[[], Any], what: str = "") -> Any:
        """Wait until it holds; what was waited for and the operator's log if it never does."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := holds()):
            if time.monotonic() > deadline:
                raise AssertionError(f"never: {what}\n{self.picture()}\n{self.operator.tail()}")
            time.sleep(0.05)
        return found

    def picture(self) -> str:
        """Every status of the namespace, for the reader of a failure."""
        bodies = [body for kind in (ND, NA) for body in self.api.list(kind, self.namespace)]
        return "\n".join(f"{b['metadata']['name']}: {json.dumps(b.get('status', {}), indent=1)}" for b in bodies)

    def until_condition(self, wanted: str, type_: str = names.READY, name: str = "nano") -> None:
        self.until(lambda: self.condition(type_, name) == wanted, f"{name} {type_} {wanted}")

    def until_ready(self, name: str = "nano") -> None:
        self.until_condition("True/Serving", name=name)

    def until_settled(self, *deployments: str) -> None:
        """Wait until these are rolled out and the operator has written nothing for a while."""
        for name in deployments:
            self.until_condition("False/Complete", names.PROGRESSING, name)
        seen = -1
        while (now := len(self.writes())) != seen:
            seen = now
            time.sleep(1.5)

    def wrote_since(self, before: int) -> bool:
        """Whether there are more writes than `before` by now."""
        return len(self.writes()) > before

    def writes(self) -> list[str]:
        """The operator's writes in this namespace as `verb resource name`, Events and artifact status apart."""
        return [
            f"{entry['verb']} {'/'.join(filter(None, (ref['resource'], ref.get('subresource'))))} {ref.get('name', '')}"
            for entry in self.plane.audit()
            if entry.get("userAgent") == names.FIELD_MANAGER
            and entry["verb"] in ("create", "patch", "update", "delete")
            and (ref := entry["objectRef"]).get("namespace") == self.namespace
            and ref["resource"] != "events"
            and (ref["resource"], ref.get("subresource")) != (NA.plural, "status")
        ]
