"""Talk to the API server: raw JSON over `kubernetes.aio`'s connection and credentials."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from aiohttp import ClientConnectionError
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException

from nemotron_api import names
from nemotron_operator.objects import KINDS, Kind, Manifest, Ref

_LOG_TAIL_BYTES = 1024
_SECONDS = 30.0
_REFUSALS = frozenset({400, 403, 422})
_OVERLOADS = frozenset({429, 500, 502, 503, 504})
_PAUSES_SECONDS = (0.1, 0.4, 1.6)
"""Between the tries of one request; a server that says how long to wait is waited for that long."""
_REFUSAL_CHARACTERS = 1000


class Refused(Exception):
    """The API server does not accept an object: the same one again will not help, its words tell why."""


class Cluster:
    """The few verbs the operator uses."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    @classmethod
    async def connect(cls) -> "Cluster":
        """With the pod's service account, or with the current kubeconfig outside a cluster."""
        configuration = client.Configuration()
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            await config.load_kube_config(client_configuration=configuration)
        return cls(client.ApiClient(configuration))

    async def close(self) -> None:
        await self._api.close()

    async def get(self, ref: Ref) -> Manifest | None:
        """The live object, or None where there is none."""
        try:
            return await self._send("GET", KINDS[ref.kind].path(ref.namespace, ref.name))
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    async def list(self, kind: Kind, namespace: str = "", selector: str = "") -> list[Manifest]:
        """Every object of a kind, read in chunks."""
        path = kind.path(namespace) if namespace else f"{kind.base}/{kind.plural}"
        items: list[Manifest] = []
        token = ""
        while True:
            page = await self._send("GET", path, {"limit": 500, "labelSelector": selector, "continue": token})
            # A list names the kind once; its items do not repeat it.
            items += [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in page["items"]]
            token = page["metadata"].get("continue", "")
            if not token:
                return items

    async def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply; fields we own are taken back from whoever changed them.

        Raises:
            Refused: the object is invalid, or forbidden by a quota, a policy or a missing right.
        """
        ref = Ref.of(manifest)
        query = {"fieldManager": names.FIELD_MANAGER, "force": "true"}
        path = KINDS[ref.kind].path(ref.namespace, ref.name)
        try:
            return await self._send("PATCH", path, query, manifest, "application/apply-patch+yaml")
        except ApiException as error:
            if error.status in _REFUSALS:
                raise _refusal(ref, error) from error
            raise

    async def create(self, manifest: Manifest) -> Manifest | None:
        """Make the object, or return None where there is one already.

        Raises:
            Refused: the object is invalid, or forbidden by a quota, a policy or a missing right.
        """
        ref = Ref.of(manifest)
        query = {"fieldManager": names.FIELD_MANAGER}
        try:
            return await self._send("POST", KINDS[ref.kind].path(ref.namespace), query, manifest)
        except ApiException as error:
            if error.status == 409:
                return None
            if error.status in _REFUSALS:
                raise _refusal(ref, error) from error
            raise

    async def delete(self, ref: Ref) -> None:
        """Delete in the background; what is gone already is fine."""
        path = KINDS[ref.kind].path(ref.namespace, ref.name)
        try:
            await self._send("DELETE", path, {"propagationPolicy": "Background"})
        except ApiException as error:
            if error.status != 404:
                raise

    async def patch_status(self, ref: Ref, uid: str, patch: Mapping[str, Any]) -> Manifest | None:
        """Change the status of this very object; None when it is gone, or another was made under its name."""
        path = KINDS[ref.kind].path(ref.namespace, ref.name) + "/status"
        query = {"fieldManager": names.FIELD_MANAGER}
        body = {"metadata": {"uid": uid}, "status": patch}
        try:
            return await self._send("PATCH", path, query, body, "application/merge-patch+json")
        except ApiException as error:
            if error.status in (404, 409):
                return None
            raise

    async def log_tail(self, namespace: str, pod: str) -> str:
        """The end of a pod's log, at most 1 KiB; empty where the log is gone."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        try:
            text = await self._send_raw("GET", path, {"tailLines": 40})
        except ApiException as error:
            if error.status in (400, 404, 500):
                return ""
            raise
        return text.decode(errors="replace").encode()[-_LOG_TAIL_BYTES:].decode(errors="ignore")

    async def post_event(self, event: Manifest) -> None:
        """Tell, where that is still possible: a namespace that ends takes no news."""
        path = f"/apis/events.k8s.io/v1/namespaces/{event['metadata']['namespace']}/events"
        try:
            await self._send("POST", path, {}, event)
        except ApiException as error:
            if not _is_terminating(error):
                raise

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Manifest:
        answer: Manifest = json.loads(await self._send_raw(method, path, query, body, content_type))
        return answer

    async def _send_raw(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> bytes:
        # A key whose plan needs several writes would else begin anew, after a longer delay, whenever one of them fails.
        # What creates is not sent twice: its first answer may be the one that was lost.
        for pause in _PAUSES_SECONDS if method != "POST" else ():
            try:
                return await self._send_once(method, path, query, body, content_type)
            except ClientConnectionError:
                await asyncio.sleep(pause)
            except ApiException as error:
                if error.status not in _OVERLOADS:
                    raise
                await asyncio.sleep(max(pause, _retry_after_seconds(error)))
        return await self._send_once(method, path, query, body, content_type)

    async def _send_once(
        self, method: str, path: str, query: Mapping[str, Any] | None, body: Any, content_type: str
    ) -> bytes:
        given = urlencode({key: value for key, value in (query or {}).items() if value != ""})
        headers: dict[str, str] = {"Accept": "application/json", "User-Agent": names.FIELD_MANAGER}
        await self._api.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        if body is not None or method == "DELETE":
            headers["Content-Type"] = content_type
        url = f"{self._api.configuration.host}{path}?{given}"
        response = await self._api.rest_client.request(
            method, url, headers=headers, body=body, _request_timeout=_SECONDS
        )
        data: bytes = await response.read()
        if not 200 <= response.status <= 299:
            raise ApiException(http_resp=response, body=data.decode(errors="replace"), data=None)
        return data


def _retry_after_seconds(error: ApiException) -> float:
    """What the server asks for, ten seconds at most; it may also name a date, which the API server never does."""
    said = str((error.headers or {}).get("Retry-After", ""))
    return min(float(said), 10.0) if said.isdigit() else 0.0


def _is_terminating(error: ApiException) -> bool:
    return error.status == 404 or (error.status == 403 and "being terminated" in (error.body or ""))


def explain(error: Exception) -> str:
    """One line for the log: what the API server said, or what went wrong on the way."""
    if not isinstance(error, ApiException):
        return f"{type(error).__name__}: {error}"
    try:
        said = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        said = error.reason
    return f"the API server answered {error.status}: {said}"


def _refusal(ref: Ref, error: ApiException) -> Refused:
    try:
        words = str(json.loads(error.body)["message"])
    except (ValueError, TypeError, KeyError):
        words = str(error.body)
    return Refused(f"The API server refuses {ref}: {words[:_REFUSAL_CHARACTERS]}")
