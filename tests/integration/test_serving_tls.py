"""A replica proves who it is, knows its clients, and takes a new certificate without cutting anybody off."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from examples import client
from nemotron_api.build import Tls
from tests.builders.authority import Authority, Identity
from tests.builders.paced_engine import Pace
from tests.integration.serving import Serving

pytestmark = pytest.mark.integration

PACE = Pace(0.02)
NO_RETRY = client.Patience(retries=0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "authority").mkdir()
    return Authority.make(tmp_path / "authority")


def mounted(identity: Identity, folder: Path, *, ca: Path | None = None) -> Tls:
    """The identity as a pod finds it in a mounted secret."""
    folder.mkdir(exist_ok=True)
    shutil.copy(identity.certificate, folder / "tls.crt")
    shutil.copy(identity.key, folder / "tls.key")
    return Tls(
        certificate=str(folder / "tls.crt"),
        key=str(folder / "tls.key"),
        ca=str(ca) if ca else None,
        server_name=identity.certificate.stem,
        spread_seconds=0,
    )


async def ask(server: Serving, authority: Authority, identity: Identity | None = None, tokens: int = 4) -> int:
    """How many tokens the example client got."""
    files = {} if identity is None else {"cert": str(identity.certificate), "key": str(identity.key)}
    settings = {"text_input": "Hello", "max_tokens": tokens}
    async with client.connect(server.grpc, tls=True, ca=str(authority.file), **files) as connection:
        return sum([len(c.token_ids) async for c in client.stream(connection, "tiny", settings, NO_RETRY)])


async def test_the_port_speaks_tls_and_the_launcher_knows_its_own_server(
    start_paced: Callable[..., Serving], authority: Authority, tmp_path: Path
) -> None:
    server = start_paced(PACE, tls=mounted(authority.identity("nano"), tmp_path / "tls"))

    assert await ask(server, authority) == 4
    assert server.get("health", "/token") == (200, "ok\n")
    with pytest.raises(client.GenerationError, match="UNAVAILABLE"):
        async with client.connect(server.grpc) as plain:
            await anext(client.stream(plain, "tiny", {"text_input": "a"}, NO_RETRY))


async def test_with_an_authority_only_its_clients_are_served(
    start_paced: Callable[..., Serving], authority: Authority, tmp_path: Path
) -> None:
    tls = mounted(authority.identity("nano"), tmp_path / "tls", ca=authority.file)
    server = start_paced(PACE, tls=tls)

    assert await ask(server, authority, authority.identity("client")) == 4
    assert server.get("health", "/token") == (200, "ok\n")
    with pytest.raises(client.GenerationError, match="UNAVAILABLE"):
        await ask(server, authority)


async def test_a_new_certificate_is_taken_without_cutting_a_stream(
    start_paced: Callable[..., Serving], authority: Authority, tmp_path: Path
) -> None:
    tls = mounted(authority.identity("nano"), tmp_path / "tls")
    server = start_paced(PACE, tls=tls, drain_seconds=30, connection_age_seconds=1)
    running = [asyncio.create_task(ask(server, authority, tokens=400)) for _ in range(8)]
    await asyncio.sleep(1)

    (tmp_path / "tls" / "tls.crt").write_text("half of a certificate")
    await asyncio.sleep(3)
    assert server.is_ready()
    (tmp_path / "elsewhere").mkdir()
    other = Authority.make(tmp_path / "elsewhere")
    mounted(other.identity("nano"), tmp_path / "tls")
    await asyncio.to_thread(server.wait, lambda: not server.is_ready(), "not ready")
    assert await ask(server, authority) == 4

    assert await asyncio.gather(*running) == [400] * 8
    await asyncio.to_thread(server.wait_until_ready)
    assert await ask(server, other) == 4
    with pytest.raises(client.GenerationError, match="UNAVAILABLE"):
        await ask(server, authority)
    assert "the certificate in use is kept" in server.log.read_text()


def test_files_that_do_not_belong_together_are_refused_at_start(
    start_serving: Callable[..., Serving], authority: Authority, tmp_path: Path
) -> None:
    tls = mounted(authority.identity("nano"), tmp_path / "tls")
    shutil.copy(authority.identity("other").key, tmp_path / "tls" / "tls.key")

    server = start_serving(tls=tls)

    assert server.process.wait(60) == 1
    assert server.failure().reason == "InvalidSpec"
    assert "tls.key are no certificate and its key" in server.failure().message
