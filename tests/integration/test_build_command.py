"""`nemotron-build` as a user types it and a Job starts it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nemotron_api.build import WeightsRequest
from tests.builders.checkpoint_files import a_checkpoint

pytestmark = pytest.mark.integration

COMMAND = [sys.executable, "-m", "nemotron_build"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return a_checkpoint(tmp_path / "checkpoint", shards=3, sums=True)


def test_the_digest_is_what_sha256sum_gives_by_hand(checkpoint: Path) -> None:
    by_hand = "export LC_ALL=C; sha256sum $(ls | grep -v '^SHA256SUMS$' | sort) | sha256sum"

    expected = subprocess.run(["sh", "-c", by_hand], cwd=checkpoint, capture_output=True, text=True, check=True)
    printed = subprocess.run([*COMMAND, "digest", str(checkpoint)], capture_output=True, text=True, check=True)

    assert printed.stdout == f"sha256:{expected.stdout.split()[0]}\n"


def test_a_sealed_artifact_passes_sha256sum_too(tmp_path: Path, checkpoint: Path) -> None:
    request = WeightsRequest(uri=f"file://{checkpoint}", store="store")
    store = tmp_path / "store"
    run = ["run", "--request", request.to_json(), "--store-root", str(store), "--allow-file-uris"]

    subprocess.run([*COMMAND, *run], stdout=subprocess.DEVNULL, check=True)

    sealed = store / "weights" / request.fingerprint
    checked = subprocess.run(["sha256sum", "--check", "COMPLETE"], cwd=sealed, capture_output=True, check=True)
    assert checked.stdout == b"manifest.json: OK\n"


def test_fetching_weights_needs_no_torch(tmp_path: Path, checkpoint: Path) -> None:
    request = WeightsRequest(uri=f"file://{checkpoint}", store="store").to_json()
    script = (
        "import json, sys\n"
        "from nemotron_build.cli import main\n"
        f"code = main(['run', '--request', {request!r}, '--store-root', {str(tmp_path)!r}, '--allow-file-uris'])\n"
        "print(json.dumps({'code': code, 'torch': 'torch' in sys.modules}))\n"
    )

    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert json.loads(ran.stdout.splitlines()[-1]) == {"code": 0, "torch": False}
