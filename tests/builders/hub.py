"""A hub on loopback that speaks as huggingface.co does: listings, redirects to storage, ranges; and fails on demand."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REPOSITORY = "nvidia/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = ".safetensors"


@dataclass
class FakeHub:
    """One repository at one commit, with the content of a folder."""

    files: Mapping[str, bytes]
    token: str | None = None
    """Who may read; None is everybody."""
    gated: bool = False
    cut_after: int | None = None
    """Bytes after which answers from storage break off; each file is cut `cuts` times."""
    cuts: int = 0
    refusals: Counter[int] = field(default_factory=Counter)
    """How often storage answers with which status before it gives anything."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Method, path and Range of each request."""
    tokens_seen_by_storage: list[str] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes of bodies by file."""
    corrupt: dict[str, bytes] = field(default_factory=dict)
    """What storage gives instead."""
    port: int = 0
    _cut: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def uri(self) -> str:
        return f"hf://{REPOSITORY}@{COMMIT}"

    def listing(self) -> dict[str, Any]:
        return {"id": REPOSITORY, "sha": COMMIT, "siblings": [self._sibling(path) for path in self.files]}

    def _sibling(self, path: str) -> dict[str, Any]:
        content = self.files[path]
        told: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": git_hash(content)}
        if path.endswith(LARGE):
            sha256 = hashlib.sha256(content).hexdigest()
            told["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
        return told

    def etag(self, path: str) -> str:
        content = self.files[path]
        return hashlib.sha256(content).hexdigest() if path.endswith(LARGE) else git_hash(content)

    def refusal(self) -> int | None:
        """A status to answer with, if any of those ordered is left."""
        with self._lock:
            for status, left in self.refusals.items():
                if left:
                    self.refusals[status] -= 1
                    return status
        return None

    def cut(self, path: str) -> bool:
        """Whether this answer breaks off."""
        with self._lock:
            self._cut[path] += 1
            return self.cut_after is not None and self._cut[path] <= self.cuts


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def a_hub(folder: Path, **more: Any) -> Iterator[FakeHub]:
    """A running hub that has the folder's files."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
    hub = FakeHub(files, **more)

    class Handler(_Handler):
        served = hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, name="fake hub")
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None: ...

    def _answer(self, *, body: bool) -> None:
        hub, path = self.served, self.path.partition("?")[0]
        hub.asked.append((self.command, path, self.headers.get("Range", "")))
        if path.startswith("/storage/"):
            hub.tokens_seen_by_storage.append(self.headers.get("Authorization", ""))
            return self._content(path.removeprefix("/storage/"), body=body, from_storage=True)
        if refused := self._refused():
            return self._say(*refused)
        if path == f"/api/models/{REPOSITORY}/revision/{COMMIT}":
            return self._say(200, {}, json.dumps(hub.listing()).encode())
        file = path.removeprefix(f"/{REPOSITORY}/resolve/{COMMIT}/")
        if file in hub.files:
            return self._resolve(file, body=body)
        if path.startswith(f"/api/models/{REPOSITORY}/"):
            return self._say(404, {"X-Error-Code": "RevisionNotFound"})
        return self._say(404, {"X-Error-Code": "RepoNotFound" if REPOSITORY not in path else "EntryNotFound"})

    def _refused(self) -> tuple[int, dict[str, str]] | None:
        hub = self.served
        if hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return 401, {"X-Error-Code": "RepoNotFound"}
        return (403, {"X-Error-Code": "GatedRepo"}) if hub.gated else None

    def _resolve(self, file: str, *, body: bool) -> None:
        told = {"X-Repo-Commit": COMMIT, "ETag": f'"{self.served.etag(file)}"'}
        if not file.endswith(LARGE):
            return self._content(file, body=body, headers=told)
        linked = {"X-Linked-Size": str(len(self.served.files[file])), "X-Linked-ETag": f'"{self.served.etag(file)}"'}
        # Storage is another host.
        return self._say(302, {**told, **linked, "Location": f"http://localhost:{self.served.port}/storage/{file}"})

    def _content(
        self, file: str, *, body: bool, headers: Mapping[str, str] | None = None, from_storage: bool = False
    ) -> None:
        hub = self.served
        if body and from_storage and (status := hub.refusal()):
            return self._say(status, {"Retry-After": "0"})
        content = hub.corrupt.get(file, hub.files[file]) if body else hub.files[file]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        told = {**(headers or {}), "Accept-Ranges": "bytes"}
        if start:
            told["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send_response(206 if start else 200)
        for name, value in {**told, "Content-Length": str(len(content) - start)}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body:
            return None
        part = content[start:]
        if from_storage and hub.cut(file):
            part = part[: hub.cut_after]
            self.close_connection = True
        hub.sent[file] += len(part)
        try:
            self.wfile.write(part)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        return None

    def _say(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
