"""Stand between the operator and the API server, and let requests fail in every way a network and a server know."""

import asyncio
import random
import ssl
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

from tests.integration.control_plane import ControlPlane, free_port

FAULTS = ("409", "429", "500", "503", "hang-up", "lost-answer")


@dataclass
class FaultyProxy:
    """Plain HTTP on loopback in front of the API server; watches pass, of other requests every third fails."""

    plane: ControlPlane
    faulty: bool = True
    dealt: Counter[str] = field(default_factory=Counter)
    port: int = field(default_factory=free_port)
    _chance: random.Random = field(default_factory=lambda: random.Random(7))
    _stop: threading.Event = field(default_factory=threading.Event)
    _up: threading.Event = field(default_factory=threading.Event)

    def kubeconfig(self, original: Path, target: Path) -> Path:
        """The same identity, through here."""
        config = yaml.safe_load(original.read_text())
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self.port}"}
        target.write_text(yaml.safe_dump(config))
        return target

    def __enter__(self) -> "FaultyProxy":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="faulty proxy")
        self._thread.start()
        assert self._up.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    async def _serve(self) -> None:
        context = ssl.create_default_context(cafile=str(self.plane.authority.certificate))
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            app = web.Application(client_max_size=2**26)
            self._session = session
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port).start()
            self._up.set()
            while not self._stop.is_set():
                await asyncio.sleep(0.1)
            await runner.cleanup()

    def _draw(self, request: web.Request) -> str:
        if not self.faulty or "watch" in request.query or self._chance.random() > 0.34:
            return ""
        # A conflict is an answer to a write only.
        fault = self._chance.choice(FAULTS if request.method != "GET" else FAULTS[1:])
        self.dealt[fault] += 1
        return fault

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = self._draw(request)
        if fault.isdigit():
            headers = {"Retry-After": "1"} if fault == "429" else {}
            status = {"kind": "Status", "status": "Failure", "message": f"a pretended {fault}", "code": int(fault)}
            return web.json_response(status, status=int(fault), headers=headers)
        if fault == "hang-up":
            return _hang_up(request)
        return await self._forward(request, lose_answer=fault == "lost-answer")

    async def _forward(self, request: web.Request, *, lose_answer: bool) -> web.StreamResponse:
        kept = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "content-length", "connection")}
        url = f"{self.plane.url}{request.path_qs}"
        timeout = aiohttp.ClientTimeout(total=None)
        body = await request.read() or None
        asked = self._session.request(
            request.method, url, data=body, headers=kept, timeout=timeout, skip_auto_headers=["Content-Type"]
        )
        async with asked as answer:
            if lose_answer:
                await answer.read()
                return _hang_up(request)
            response = web.StreamResponse(status=answer.status)
            response.content_type = answer.content_type
            if encoding := answer.headers.get("Content-Encoding"):
                response.headers["Content-Encoding"] = encoding
            await response.prepare(request)
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
            await response.write_eof()
            return response


def _hang_up(request: web.Request) -> web.Response:
    assert request.transport
    request.transport.abort()
    return web.Response()
