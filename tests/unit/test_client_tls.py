"""The example client checks who the server is, and says who it is."""

import datetime
import ipaddress
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tritonclient.grpc import service_pb2_grpc

from examples import client
from tests.builders.scripted_triton import ScriptedServer, says

pytestmark = pytest.mark.unit

NO_RETRY = client.Patience(retries=0)


@dataclass(frozen=True, slots=True)
class Identity:
    """A name with its key and the certificate an authority signed for it, as PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates for 127.0.0.1; writes everything it makes to `folder`."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        authority = cls(folder, sign("authority", key, "authority", key, authority=True), key)
        (folder / "ca.pem").write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))
        return authority

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    def identity(self, name: str) -> Identity:
        key = ec.generate_private_key(ec.SECP256R1())
        made = Identity(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        certificate = sign(name, key, "authority", self.key, authority=False)
        made.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return made


def sign(
    name: str, key: ec.EllipticCurvePrivateKey, by: str, by_key: ec.EllipticCurvePrivateKey, *, authority: bool
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    return (
        x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]),
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            key.public_key(),
            x509.random_serial_number(),
            now - day,
            now + day,
        )
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(by_key, hashes.SHA256())
    )


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
