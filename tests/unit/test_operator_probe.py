"""What replicas answer, and what becomes of answers nobody expects."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from nemotron_api import names
from nemotron_operator.observed import Load
from nemotron_operator.probe import Prober

pytestmark = pytest.mark.unit

GOOD = "nemotron_waiting_requests 3\nnemotron_state_slots_used 5\nnemotron_state_slots_total 16\n"


@asynccontextmanager
async def a_replica(monkeypatch: pytest.MonkeyPatch, answer: web.Response | None) -> AsyncIterator[str]:
    """The loopback address of one that gives this answer to every question; None closes the connection instead."""

    async def reply(request: web.Request) -> web.Response:
        if answer is None:
            assert request.transport
            request.transport.close()
            return web.Response()
        return web.Response(status=answer.status, body=answer.body, content_type=answer.content_type)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", reply)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    monkeypatch.setattr(names, "HEALTH_PORT", port)
    monkeypatch.setattr(names, "METRICS_PORT", port)
    try:
        yield "127.0.0.1"
    finally:
        await runner.cleanup()


async def token(monkeypatch: pytest.MonkeyPatch, answer: web.Response | None) -> str:
    async with a_replica(monkeypatch, answer) as address, Prober() as prober:
        return await prober.ask_for_token(address)


async def load(monkeypatch: pytest.MonkeyPatch, text: str | bytes, status: int = 200) -> Load:
    body = text.encode() if isinstance(text, str) else text
    async with a_replica(monkeypatch, web.Response(status=status, body=body)) as address, Prober() as prober:
        return await prober.load([address])


async def test_a_token_is_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await token(monkeypatch, web.Response(text="ok\n")) == ""


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        pytest.param(web.Response(text="no token within 20 s\n", status=503), "503: no token within 20 s", id="503"),
        pytest.param(web.Response(text="no such path: one of /livez", status=404), "404: no such path", id="older"),
        pytest.param(web.Response(text="<html>", status=502), "502: <html>", id="html"),
        pytest.param(web.Response(text="<html>welcome"), "200: <html>", id="another-server"),
        pytest.param(web.Response(text="x" * 100_000, status=503), "503: xxx", id="endless"),
        pytest.param(web.Response(body=b"\xff\xfe", status=200), "No token", id="bytes"),
        pytest.param(web.Response(body=b""), "200", id="nothing"),
        pytest.param(None, "No token", id="hung-up"),
    ],
)
async def test_anything_else_is_told_and_never_raised(
    monkeypatch: pytest.MonkeyPatch, answer: web.Response | None, says: str
) -> None:
    assert says in await token(monkeypatch, answer)


@pytest.mark.parametrize("address", ["", "None", "127.0.0.1:1", "::1", "not an address"])
async def test_no_address_is_told_too(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "HEALTH_PORT", 1)
    async with Prober() as prober:
        assert (await prober.ask_for_token(address)).startswith("No token")


async def test_an_ipv6_address_is_asked_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def refuse(_self: Any, _method: str, url: str, **_: Any) -> None:
        asked.append(str(url))
        raise aiohttp.ClientConnectionError("no")

    monkeypatch.setattr(aiohttp.ClientSession, "_request", refuse)
    async with Prober() as prober:
        await prober.ask_for_token("fd00::7")
        await prober.load(["fd00::8"])
    assert asked == ["http://[fd00::7]:8080/token", "http://[fd00::8]:8002/metrics"]


async def test_a_first_question_waits_for_nodes_to_hear_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["refused", "refused", ""])
    asked: list[str] = []

    async def answer(_self: Prober, address: str) -> str:
        asked.append(address)
        return next(answers)

    monkeypatch.setattr(Prober, "_ask", answer)
    monkeypatch.setattr("nemotron_operator.probe._PAUSES", (0, 0, 0, 0))
    assert await Prober().ask_for_token("a", patient=True) == ""
    assert len(asked) == 3


async def test_metrics_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_replica(monkeypatch, web.Response(text=GOOD)) as address, Prober() as prober:
        assert await prober.load([address, address]) == Load(2, 2, 6, 10, 32)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        pytest.param("", 200, id="empty"),
        pytest.param("<html>not found</html>", 404, id="html"),
        pytest.param(GOOD, 503, id="the-right-words-with-the-wrong-status"),
        pytest.param(b"\xff\xfe\x00", 200, id="bytes"),
        pytest.param("nemotron_waiting_requests{ 3", 200, id="cut-short"),
        pytest.param(GOOD.replace("3", "NaN"), 200, id="not-a-number"),
        pytest.param(GOOD.replace("16", "+Inf"), 200, id="infinite"),
        pytest.param("nemotron_waiting_requests 3\n", 200, id="half"),
    ],
)
async def test_a_replica_that_talks_nonsense_did_not_answer(
    monkeypatch: pytest.MonkeyPatch, text: str | bytes, status: int
) -> None:
    assert await load(monkeypatch, text, status) == Load(1, 0, 0, 0, 0)


async def test_nobody_to_ask() -> None:
    async with Prober() as prober:
        assert await prober.load([]) == Load(0, 0, 0, 0, 0)
