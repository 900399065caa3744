"""The example client checks who the server is, and says who it is."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2_grpc

from examples import client
from tests.builders.authority import Authority, Identity
from tests.builders.scripted_triton import ScriptedServer, says

pytestmark = pytest.mark.unit

NO_RETRY = client.Patience(retries=0)


@asynccontextmanager
async def serving(identity: Identity, clients: Path) -> AsyncGenerator[str, None]:
    """The address of a server that shows `identity` and talks to clients signed by the authority in `clients`."""
    credentials = grpc.ssl_server_credentials(
        [(identity.key.read_bytes(), identity.certificate.read_bytes())], clients.read_bytes(), require_client_auth=True
    )
    listener = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(ScriptedServer([says("secret")]), listener)
    port = listener.add_secure_port("127.0.0.1:0", credentials)
    await listener.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await listener.stop(None)


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    (tmp_path / "ours").mkdir()
    return Authority.make(tmp_path / "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    (tmp_path / "theirs").mkdir()
    return Authority.make(tmp_path / "theirs")


async def ask(url: str, authority: Authority, identity: Identity | None) -> str:
    files = {} if identity is None else {"cert": str(identity.certificate), "key": str(identity.key)}
    async with client.connect(url, tls=True, ca=str(authority.file), **files) as connection:
        chunks = client.stream(connection, "tiny", {"text_input": "Hello"}, NO_RETRY)
        return "".join([chunk.text async for chunk in chunks])


async def test_both_sides_that_know_each_other_talk(ours: Authority) -> None:
    async with serving(ours.identity("server"), ours.file) as url:
        assert await ask(url, ours, ours.identity("client")) == "secret"


async def test_a_server_signed_by_another_authority_gets_no_request(ours: Authority, theirs: Authority) -> None:
    async with serving(theirs.identity("server"), ours.file) as url:
        with pytest.raises(client.GenerationError, match="UNAVAILABLE"):
            await ask(url, ours, ours.identity("client"))


async def test_a_client_without_a_certificate_is_refused(ours: Authority) -> None:
    async with serving(ours.identity("server"), ours.file) as url:
        with pytest.raises(client.GenerationError, match="UNAVAILABLE"):
            await ask(url, ours, None)
