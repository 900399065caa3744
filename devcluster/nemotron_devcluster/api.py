"""Talk to the API server with the standard library: read, write, watch."""

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.network import API_URL
from nemotron_devcluster.pki import Authority

Object = dict[str, Any]
MERGE_PATCH = "application/merge-patch+json"


class ApiError(ClusterError):
    """The API server's answer was not a success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the API server answered {status}: {message}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Api:
    """The API server as the cluster's admin."""

    authority: Authority

    def get(self, path: str) -> Object:
        return self._call("GET", path)

    def find(self, path: str) -> Object | None:
        """The object, or None when there is none."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def post(self, path: str, body: Object) -> Object:
        return self._call("POST", path, body, "application/json")

    def patch(self, path: str, body: Object) -> Object:
        """A JSON merge patch: absent means unchanged, null means removed."""
        return self._call("PATCH", path, body, MERGE_PATCH)

    def delete(self, path: str) -> None:
        """Delete the object; nothing happens when it is gone already."""
        try:
            self._call("DELETE", path)
        except ApiError as error:
            if error.status != 404:
                raise

    def is_ready(self) -> bool:
        """Whether the API server answers and says that it is ready."""
        try:
            with self._send("GET", "/readyz") as response:
                return response.status == 200
        except OSError:
            return False

    def watch(self, path: str, version: str, seconds: int) -> Iterator[Object]:
        """Changes since a resource version, until the server closes the stream after `seconds`."""
        with self._send("GET", f"{path}?watch=1&resourceVersion={version}&timeoutSeconds={seconds}") as response:
            if response.status != 200:
                raise ApiError(response.status, response.read().decode(errors="replace"))
            for line in response:
                yield json.loads(line)

    def _call(self, method: str, path: str, body: Object | None = None, content_type: str = "") -> Object:
        with self._send(method, path, body, content_type) as response:
            answer = response.read()
        if response.status >= 400:
            raise ApiError(response.status, _message(answer))
        content: Object = json.loads(answer)
        return content

    def _send(self, method: str, path: str, body: Object | None = None, content_type: str = "") -> HTTPResponse:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        admin = self.authority.issue("admin", "admin", "system:masters")
        context.load_cert_chain(admin.certificate, admin.key)
        connection = HTTPSConnection(urlsplit(API_URL).netloc, timeout=30, context=context)
        headers = {"Content-Type": content_type, "User-Agent": "nemotron-devcluster", "Connection": "close"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        return connection.getresponse()


def _message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError):
        return answer.decode(errors="replace")
