"""A build that ends at any point leaves nothing that a reader could take for an artifact, and nothing for ever."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nemotron_api.build import WeightsRequest
from tests.builders import break_off
from tests.builders.checkpoint_files import a_checkpoint

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("how", "codes"),
    [
        pytest.param("kill", {-9}, id="killed"),
        pytest.param("fail", {1, 13, 14}, id="disk-fails"),
        pytest.param("stop", {143}, id="asked-to-stop"),
    ],
)
def test_a_build_ended_at_any_line_leaves_nothing_or_a_sealed_artifact(
    tmp_path: Path, how: str, codes: set[int]
) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint", sums=True)
    whole = sum(path.stat().st_size for path in checkpoint.iterdir() if path.name != "SHA256SUMS")
    fingerprint = WeightsRequest(uri=f"file://{checkpoint}", store="store").fingerprint

    *broken_off, last = attempts(how, checkpoint, tmp_path / "store")

    assert len(broken_off) > 100
    assert last["code"] == 0
    assert {each["code"] for each in broken_off} == codes
    assert {each["found"] for each in broken_off} == {"nothing", "sealed"}
    assert {each["healed"] for each in broken_off} == {whole}
    assert all(each["in_the_end"] == [fingerprint] for each in broken_off)
    if how == "stop":
        drafts = [name for each in broken_off for name in each["left"] if ".tmp-" in name and ".lock" not in name]
        assert drafts == []


def attempts(how: str, checkpoint: Path, store: Path) -> list[dict[str, Any]]:
    # -P: the script's own folder has modules named like the standard library's.
    command = [sys.executable, "-P", break_off.__file__, how, str(checkpoint), str(store)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in ended.stdout.splitlines()]
