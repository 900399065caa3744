"""Certificates: who signed them, what they are good for, who may read the keys."""

import base64
import datetime
import stat
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nemotron_devcluster.pki import Authority, Pair, create_service_account_key, write_kubeconfig

pytestmark = pytest.mark.unit


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "pki", "an-authority")
    made.create()
    return made


def certificate(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes())


def test_a_certificate_is_signed_by_its_authority_and_no_other(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "an-authority")
    other.create()

    issued = certificate(authority.issue("client", "someone"))

    issued.verify_directly_issued_by(certificate(authority.pair))
    with pytest.raises(InvalidSignature):
        issued.verify_directly_issued_by(certificate(other.pair))


def test_a_client_is_named_and_grouped(authority: Authority) -> None:
    subject = certificate(authority.issue("client", "system:node:node1", "system:nodes")).subject

    assert subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:node1"
    assert subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"


@pytest.mark.parametrize(
    ("hosts", "serves"),
    [pytest.param((), False, id="client"), pytest.param(("localhost", "10.0.0.1"), True, id="server")],
)
def test_only_a_server_may_serve_and_only_under_its_names(
    authority: Authority, hosts: tuple[str, ...], serves: bool
) -> None:
    extensions = certificate(authority.issue("one", "one", hosts=hosts)).extensions

    purposes = list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert (ExtendedKeyUsageOID.SERVER_AUTH in purposes) == serves
    if serves:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost"]
        assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]


def test_nothing_is_issued_twice(authority: Authority) -> None:
    before = authority.issue("client", "someone").certificate.read_bytes(), authority.certificate.read_bytes()

    authority.create()

    assert (authority.issue("client", "someone").certificate.read_bytes(), authority.certificate.read_bytes()) == before


def test_keys_are_for_their_owner_alone(authority: Authority, tmp_path: Path) -> None:
    create_service_account_key(tmp_path / "sa.key", tmp_path / "sa.pub")
    write_kubeconfig(tmp_path / "admin.conf", "https://here", authority, authority.issue("client", "someone"))

    for secret in (
        authority.pair.key,
        authority.issue("client", "someone").key,
        tmp_path / "sa.key",
        tmp_path / "admin.conf",
    ):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_a_kubeconfig_needs_no_other_file(authority: Authority, tmp_path: Path) -> None:
    client = authority.issue("client", "someone")
    write_kubeconfig(tmp_path / "admin.conf", "https://here", authority, client)

    config = yaml.safe_load((tmp_path / "admin.conf").read_text())
    assert config["clusters"][0]["cluster"]["server"] == "https://here"
    embedded = config["users"][0]["user"]["client-certificate-data"]
    assert base64.b64decode(embedded) == client.certificate.read_bytes()


def test_certificates_are_valid_now(authority: Authority) -> None:
    issued = certificate(authority.issue("client", "someone"))

    assert issued.not_valid_before_utc < datetime.datetime.now(datetime.UTC) < issued.not_valid_after_utc
