"""`nemotron-build run` ends with an exit code, one line of JSON, and the same in the termination log."""

import json
from pathlib import Path
from typing import Any

import pytest

from nemotron_api.build import TERMINATION_MESSAGE_BYTES, EngineRequest, Failure, Success, WeightsRequest
from nemotron_api.errors import VolumeFull
from nemotron_build import job
from nemotron_build.cli import main
from nemotron_build.digest import digest_of, hash_tree
from tests.builders.checkpoint_files import a_checkpoint

pytestmark = pytest.mark.unit


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return a_checkpoint(tmp_path / "claim" / "tiny")


def run(tmp_path: Path, request: str, *more: str) -> int:
    places = {"--store-root": "store", "--source-mount": "claim", "--termination-log": "termination-log"}
    flags = [text for flag, name in places.items() for text in (flag, str(tmp_path / name))]
    return main(["run", "--request", request, *flags, *more])


def termination(tmp_path: Path) -> dict[str, Any]:
    content = (tmp_path / "termination-log").read_bytes()
    assert len(content) <= TERMINATION_MESSAGE_BYTES
    told: dict[str, Any] = json.loads(content)
    return told


def test_a_good_run_reports_what_it_sealed(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = WeightsRequest(uri="pvc://models/tiny", store="claim")

    assert run(tmp_path, request.to_json()) == 0

    success = Success.model_validate(termination(tmp_path))
    manifest = (tmp_path / "store" / "weights" / request.fingerprint / "manifest.json").read_bytes()
    assert success.fingerprint == request.fingerprint
    assert success.digest == json.loads(manifest)["digest"] == digest_of(hash_tree(checkpoint))
    assert success.bytes == sum(file.bytes for file in hash_tree(checkpoint))
    lines = capsys.readouterr().out.splitlines()
    assert json.loads(lines[-1]) == termination(tmp_path)
    assert any(line.startswith("fetched and hashed") for line in lines)


def test_a_request_can_come_from_a_file(tmp_path: Path, checkpoint: Path) -> None:
    (tmp_path / "request.json").write_text(WeightsRequest(uri="pvc://models/tiny", store="claim").to_json())

    assert run(tmp_path, f"@{tmp_path / 'request.json'}") == 0


def weights(uri: str) -> str:
    return WeightsRequest(uri=uri, store="claim").to_json()


def an_engine(**changes: Any) -> str:
    good = EngineRequest(
        model="tiny", weights="a" * 64, weights_digest=f"sha256:{'b' * 64}", runtime="image", store="claim"
    )
    return json.dumps(good.to_dict() | changes)


@pytest.mark.parametrize(
    ("request_", "code", "reason", "says"),
    [
        pytest.param("{", 2, "InvalidSpec", "Invalid JSON", id="no-json"),
        pytest.param("@/no/such/file", 2, "InvalidSpec", "No such file", id="no-file"),
        pytest.param('{"kind": "Poem"}', 2, "InvalidSpec", "'Weights', 'Engine'", id="unknown-kind"),
        pytest.param('{"kind": "Weights", "store": "s"}', 2, "InvalidSpec", "Weights.uri: Field required", id="no-uri"),
        pytest.param(an_engine(precision="FP4"), 2, "InvalidSpec", "Engine.precision", id="unknown-precision"),
        pytest.param(an_engine(model="../../etc"), 2, "InvalidSpec", "Engine.model", id="model-is-no-name"),
        pytest.param(an_engine(weights="../etc"), 2, "InvalidSpec", "Engine.weights", id="weights-are-no-fingerprint"),
        pytest.param(an_engine(surprise=1), 2, "InvalidSpec", "Engine.surprise", id="unknown-field"),
        pytest.param(weights("s3://bucket/tiny"), 11, "UnsupportedSource", "s3://bucket", id="unknown-scheme"),
        pytest.param(weights("file:///etc"), 11, "UnsupportedSource", "for the command line only", id="files"),
        pytest.param(weights("pvc://models/nano"), 12, "SourceNotFound", "/nano on claim models", id="nothing-there"),
    ],
)
def test_a_request_that_cannot_be_done_says_why(
    tmp_path: Path, checkpoint: Path, request_: str, code: int, reason: str, says: str
) -> None:
    assert run(tmp_path, request_) == code

    failure = Failure.model_validate(termination(tmp_path))
    assert failure.reason == reason
    assert says in failure.message


def test_a_megabyte_of_error_text_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Success:
        raise VolumeFull("volle Platte: ä" * 70_000)

    monkeypatch.setattr(job, "run", fail)

    assert run(tmp_path, an_engine()) == 20
    assert termination(tmp_path)["reason"] == "VolumeFull"
    assert termination(tmp_path)["message"].endswith("…")


def test_an_error_without_a_name_shows_its_traceback_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> Success:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(job, "run", fail)

    assert run(tmp_path, an_engine()) == 1
    assert termination(tmp_path) == {"reason": "InternalError", "message": "ZeroDivisionError: a bug"}
    assert "Traceback" in capsys.readouterr().err


def test_a_termination_log_that_cannot_be_written_does_not_hide_the_outcome(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "termination-log").mkdir()

    assert run(tmp_path, weights("pvc://models/tiny")) == 0
    assert "the termination message cannot be written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        pytest.param(["digest", "/no/such/folder"], 12, "there is no /no/such/folder", id="digest-of-nothing"),
        pytest.param(["verify", "/no/such/folder"], 12, "not a sealed artifact", id="verify-nothing"),
        pytest.param(["engine", "/no/such/folder", "--model", "m"], 12, "there is no", id="engine-of-nothing"),
        pytest.param(["engine", "/", "--model", "m", "--max-batch", "0"], 2, "max_batch", id="limits-out-of-range"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], code: int, says: str
) -> None:
    store = ["--store-root", str(tmp_path)] if command[0] == "engine" else []

    assert main([*command, *store]) == code
    assert says in capsys.readouterr().out


def test_a_digest_is_printed_alone(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["digest", str(checkpoint)]) == 0

    assert capsys.readouterr().out == f"{digest_of(hash_tree(checkpoint))}\n"


def test_a_sealed_artifact_is_verified_by_its_directory(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = WeightsRequest(uri="pvc://models/tiny", store="claim")
    run(tmp_path, request.to_json())
    directory = tmp_path / "store" / "weights" / request.fingerprint

    assert main(["verify", str(directory)]) == 0
    assert "is intact" in capsys.readouterr().out

    (directory / "tokenizer.json").write_text("[]")
    assert main(["verify", str(directory)]) == 14
    assert "tokenizer.json" in capsys.readouterr().out
