"""What the launcher verifies, starts, reads and reports."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

from nemotron_api import errors
from nemotron_api.build import (
    COMPLETE,
    MANIFEST,
    TERMINATION_MESSAGE_BYTES,
    Failure,
    FileEntry,
    Kind,
    Manifest,
    ServingConfig,
    Tls,
    Tracing,
)
from nemotron_api.errors import EngineMismatch, InvalidSpec, NemotronError
from nemotron_backend import codes, installation, launcher, seal, server
from nemotron_backend.run_directory import RUN_DIRECTORY, Pulse, RunDirectory, Settings

pytestmark = pytest.mark.unit

CONFIG = ServingConfig(
    model="tiny", engine="engines/x", manifest_sha256="0" * 64, drain_seconds=60, connection_age_seconds=30
)


def sealed(directory: Path, kind: Kind = "Engine") -> str:
    """Seal a small engine in `directory`; the digest of its manifest."""
    (directory / "folder").mkdir()
    (directory / "folder" / "small").write_bytes(b"small")
    (directory / "large").write_bytes(bytes(seal.HASHED_BYTES_MAX + 1))
    manifest = Manifest(
        kind=kind,
        fingerprint="a" * 64,
        request={},
        digest="sha256:" + "b" * 64,
        files=tuple(entry(directory, path) for path in ("folder/small", "large")),
    )
    (directory / MANIFEST).write_text(manifest.to_json())
    (directory / COMPLETE).touch()
    return hashlib.sha256((directory / MANIFEST).read_bytes()).hexdigest()


def entry(directory: Path, path: str) -> FileEntry:
    content = (directory / path).read_bytes()
    return FileEntry(path=path, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def test_a_sealed_engine_is_accepted(tmp_path: Path) -> None:
    assert seal.verify(tmp_path, sealed(tmp_path)).kind == "Engine"


@pytest.mark.parametrize("name", ["folder/small", "large", MANIFEST, COMPLETE])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    digest = sealed(tmp_path)
    (tmp_path / name).unlink()

    with pytest.raises(EngineMismatch, match=name):
        seal.verify(tmp_path, digest)


@pytest.mark.parametrize("name", ["folder/small", "large", MANIFEST])
def test_a_file_of_another_size_is_named(tmp_path: Path, name: str) -> None:
    digest = sealed(tmp_path)
    with (tmp_path / name).open("ab") as file:
        file.write(b"x")

    with pytest.raises(EngineMismatch, match=name):
        seal.verify(tmp_path, digest)


def test_another_content_of_a_small_file_is_found(tmp_path: Path) -> None:
    digest = sealed(tmp_path)
    (tmp_path / "folder" / "small").write_bytes(b"SMALL")

    with pytest.raises(EngineMismatch, match="folder/small is not what was sealed"):
        seal.verify(tmp_path, digest)


def test_weights_written_to_after_the_seal_are_read_whole(tmp_path: Path) -> None:
    digest = sealed(tmp_path)
    later = (tmp_path / COMPLETE).stat().st_mtime_ns + 1_000_000_000
    os.utime(tmp_path / "large", ns=(later, later))
    assert seal.verify(tmp_path, digest)

    with (tmp_path / "large").open("r+b") as file:
        file.write(b"X")
    os.utime(tmp_path / "large", ns=(later, later))

    with pytest.raises(EngineMismatch, match="large is not what was sealed"):
        seal.verify(tmp_path, digest)


def test_weights_are_no_engine(tmp_path: Path) -> None:
    digest = sealed(tmp_path, kind="Weights")

    with pytest.raises(EngineMismatch, match="holds Weights, not an Engine"):
        seal.verify(tmp_path, digest)


def test_a_manifest_of_another_version_is_refused(tmp_path: Path) -> None:
    sealed(tmp_path)
    (tmp_path / MANIFEST).write_text('{"kind": "Hologram"}')
    digest = hashlib.sha256((tmp_path / MANIFEST).read_bytes()).hexdigest()

    with pytest.raises(EngineMismatch, match="build the engine with this image"):
        seal.verify(tmp_path, digest)


def test_an_images_own_server_is_preferred(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "tritonserver").touch()

    found = installation.find(tmp_path / "scratch", container=tmp_path)

    assert found.binary == tmp_path / "bin" / "tritonserver"
    assert found.backends == tmp_path / "backends"


def test_else_the_packages_server_is_laid_out(tmp_path: Path) -> None:
    found = installation.find(tmp_path, container=tmp_path / "none")

    assert found.binary.is_file()
    assert {path.name for path in (found.backends / "python").iterdir()} == {
        "libtriton_python.so",
        "triton_python_backend_stub",
        "triton_python_backend_utils.py",
    }
    assert all(path.resolve().is_file() for path in (found.backends / "python").iterdir())


def test_a_numpy_that_the_packages_server_misreads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineMismatch, match=r"needs numpy 1; this is 2\.3\.5: install numpy 1\.26\.4"):
        installation.find(tmp_path, container=tmp_path / "none", numpy_version="2.3.5")


def test_the_servers_command_line_and_environment(tmp_path: Path) -> None:
    found = installation.Installation(Path("/t/tritonserver"), Path("/t/backends"), (Path("/t/lib"),))
    address = server.Address("127.0.0.1", grpc=1, http=2, metrics=3)

    flags = server.command(found, CONFIG, Path("/store/engines/x"), address, "prefix_")
    environment = server.environment(found, tmp_path, {"PATH": "/bin", "LD_LIBRARY_PATH": "/own", "HOME": "/"})

    assert "--model-repository=/store/engines/x/model_repository" in flags
    assert "--load-model=tiny" in flags
    assert "--grpc-max-connection-age=30000" in flags
    assert "--grpc-max-connection-age-grace=60000" in flags
    assert ("--grpc-address=127.0.0.1" in flags, "--http-address=127.0.0.1" in flags) == (True, True)
    assert not [flag for flag in flags if "ssl" in flag]
    assert environment["PATH"] == f"{Path(sys.executable).parent}:/bin"
    assert environment["LD_LIBRARY_PATH"] == "/t/lib:/own"
    assert environment[RUN_DIRECTORY] == str(tmp_path)
    assert environment["HOME"] == "/"


def test_triton_answers_http_to_its_own_machine_alone(tmp_path: Path) -> None:
    found = installation.Installation(Path("/t/tritonserver"), Path("/t/backends"), ())

    flags = server.command(found, CONFIG, tmp_path, server.Address(), "prefix_")

    assert "--http-address=127.0.0.1" in flags
    assert {"--grpc-address=0.0.0.0", "--metrics-address=0.0.0.0"} <= set(flags)


@pytest.mark.parametrize(
    ("ca", "expected"),
    [
        pytest.param(None, {"--grpc-use-ssl=true"}, id="server-only"),
        pytest.param("/tls/ca.crt", {"--grpc-use-ssl-mutual=true", "--grpc-root-cert=/tls/ca.crt"}, id="mutual"),
    ],
)
def test_a_secret_becomes_flags(tmp_path: Path, ca: str | None, expected: set[str]) -> None:
    tls = Tls(certificate="/tls/tls.crt", key="/tls/tls.key", ca=ca, server_name="nano")
    found = installation.Installation(Path("/t/tritonserver"), Path("/t/backends"), ())

    flags = server.command(found, CONFIG.model_copy(update={"tls": tls}), tmp_path, server.Address(), "prefix_")

    files = {"--grpc-server-cert=/tls/tls.crt", "--grpc-server-key=/tls/tls.key"}
    assert {flag for flag in flags if "ssl" in flag or "cert" in flag or "server-key" in flag} == files | expected


def test_the_model_is_told_its_part_of_the_configuration(tmp_path: Path) -> None:
    traced = Tracing(url="http://collector:4318/v1/traces", ratio=0.25)
    parked = {"park_bytes": 1 << 30, "park_directory": "/parked"}
    config = CONFIG.model_copy(update={"client_limit": 4, "max_waiting": 9, "tracing": traced, **parked})
    run = RunDirectory(tmp_path)

    assert run.read_settings() == launcher.settings(CONFIG) == Settings()
    run.write_settings(launcher.settings(config))

    assert run.read_settings() == Settings(9, 4, "http://collector:4318/v1/traces", 0.25, 1 << 30, "/parked")


def test_what_is_not_set_is_not_written_for_older_images() -> None:
    assert not {"clientLimit", "startSeconds", "tls", "tracing"} & CONFIG.to_dict().keys()


def test_the_run_directory_carries_both_ways(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    pulse = Pulse(pid=7, written_at=1.5, stall_seconds=0.1, refusing=True, active=2)
    assert (run.read_pulse(), run.read_failure(), run.is_refusing) == (None, None, False)

    run.write_pulse(pulse)
    run.write_failure("EngineMismatch", "why")
    run.refuse()

    assert run.read_pulse() == pulse
    assert run.read_failure() == {"reason": "EngineMismatch", "message": "why"}
    assert run.is_refusing
    run.clear()
    assert (run.read_pulse(), run.read_failure(), run.is_refusing) == (None, None, False)


def test_a_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "serving.json").write_text(CONFIG.to_json())

    assert launcher.read_config(tmp_path / "serving.json") == CONFIG


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        pytest.param(None, r"serving.json cannot be read \(No such file", id="missing"),
        pytest.param("{", "is not a serving configuration", id="no-json"),
        pytest.param('{"model": "tiny"}', "manifestSha256", id="incomplete"),
        pytest.param(CONFIG.to_json()[:-1] + ', "colour": 1}', "colour", id="unknown-field"),
    ],
)
def test_a_configuration_that_is_wrong_says_how(tmp_path: Path, content: str | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "serving.json").write_text(content)

    with pytest.raises(InvalidSpec, match=sentence):
        launcher.read_config(tmp_path / "serving.json")


def test_a_long_failure_fits_into_the_termination_log(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    log.touch()

    launcher.report(Failure(reason="EngineMismatch", message="ü" * 1_000_000), log)

    assert log.stat().st_size <= TERMINATION_MESSAGE_BYTES
    assert Failure.model_validate_json(log.read_bytes()).message.startswith("üü")


def test_without_a_termination_log_none_is_made(tmp_path: Path) -> None:
    launcher.report(Failure(reason="EngineMismatch", message="why"), tmp_path / "none")

    assert not (tmp_path / "none").exists()


def test_every_error_has_a_code() -> None:
    classes = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, NemotronError)]

    known = {"INVALID_ARG", "UNAVAILABLE", "CANCELLED", "INTERNAL"}
    assert {codes.code_of(cls("why")) for cls in classes} <= known
    assert codes.text_of(EngineMismatch("why")) == "EngineMismatch: why"
