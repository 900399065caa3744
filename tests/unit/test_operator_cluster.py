"""What the operator's connection does when the API server fails it, against a server that counts."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException

from nemotron_operator import cluster as cluster_module
from nemotron_operator.cluster import Cluster
from nemotron_operator.objects import SERVICE, Ref

REF = Ref(SERVICE.kind, "here", "nano")
OBJECT = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "nano", "namespace": "here"}}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_PAUSES_SECONDS", (0.0, 0.0, 0.0))


def asked_of_a_server_that_answers(*answers: int, ask: Callable[[Cluster], Awaitable[Any]]) -> tuple[Any, int]:
    """What came of a request (or its error) and how often it was sent; 0 hangs up, the last answer stays."""

    async def whole() -> tuple[Any, int]:
        sent = 0

        async def answer(request: web.Request) -> web.StreamResponse:
            nonlocal sent
            status = answers[min(sent, len(answers) - 1)]
            sent += 1
            if status == 0:
                assert request.transport
                request.transport.abort()
            return web.json_response(OBJECT, status=status or 200)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        async with TestServer(app) as server:
            cluster = Cluster(client.ApiClient(client.Configuration(host=str(server.make_url("/")).rstrip("/"))))
            try:
                return await ask(cluster), sent
            except ApiException as error:
                return error, sent
            finally:
                await cluster.close()

    return asyncio.run(whole())


@pytest.mark.parametrize("fault", [0, 429, 500, 503])
def test_what_may_be_sent_twice_is(fault: int) -> None:
    for ask in (lambda c: c.get(REF), lambda c: c.apply(OBJECT), lambda c: c.patch_status(REF, "1", {})):
        answer, sent = asked_of_a_server_that_answers(fault, fault, 200, ask=ask)
        assert answer == OBJECT
        assert sent == 3


def test_a_server_that_stays_broken_is_the_callers_to_wait_for() -> None:
    error, sent = asked_of_a_server_that_answers(503, ask=lambda c: c.get(REF))
    assert isinstance(error, ApiException)
    assert error.status == 503
    assert sent == 4


def test_creating_is_never_tried_twice() -> None:
    error, sent = asked_of_a_server_that_answers(503, ask=lambda c: c.create(OBJECT))
    assert isinstance(error, ApiException)
    assert sent == 1


@pytest.mark.parametrize("status", [400, 403, 409, 410])
def test_what_the_server_means_is_not_asked_again(status: int) -> None:
    error, sent = asked_of_a_server_that_answers(status, ask=lambda c: c.get(REF))
    assert isinstance(error, ApiException)
    assert error.status == status
    assert sent == 1


def test_a_server_that_says_how_long_is_waited_for_that_long_but_not_for_ever() -> None:
    def of(headers: dict[str, str]) -> float:
        error = ApiException(status=429)
        error.headers = headers
        return cluster_module._retry_after_seconds(error)

    assert of({"Retry-After": "2"}) == 2.0
    assert of({"Retry-After": "86400"}) == 10.0
    assert of({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}) == 0.0
    assert of({}) == 0.0
