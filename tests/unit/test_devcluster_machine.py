"""One cluster per machine, and everyone is told whose it is."""

import json
import os
from pathlib import Path

import pytest

from nemotron_devcluster import machine
from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.home import Home, home

pytestmark = pytest.mark.unit


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's record, on a machine of the test's own whose user is root."""
    path = tmp_path / "record.json"
    monkeypatch.setattr(machine, "RECORD", path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return path


def test_a_cluster_is_claimed_and_released(record: Path, tmp_path: Path) -> None:
    machine.claim(Home(tmp_path))
    machine.claim(Home(tmp_path))

    assert machine.owner() == machine.us(Home(tmp_path))
    machine.release()
    assert machine.owner() is None


def test_another_working_copys_cluster_is_left_alone(record: Path, tmp_path: Path) -> None:
    record.write_text(json.dumps({"clone": str(tmp_path), "home": "/elsewhere"}))

    with pytest.raises(ClusterError, match=f"the cluster of {tmp_path} is up .* CLUSTER=existing"):
        machine.claim(Home(tmp_path))


def test_the_cluster_of_a_deleted_working_copy_may_be_taken_over(record: Path, tmp_path: Path) -> None:
    record.write_text(json.dumps({"clone": str(tmp_path / "deleted"), "home": "/elsewhere"}))

    machine.claim(Home(tmp_path))

    assert machine.owner() == machine.us(Home(tmp_path))


def test_who_is_not_root_is_told_what_to_do(record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(ClusterError, match="run as root, or set CLUSTER=existing"):
        machine.claim(Home(tmp_path))


def test_home_follows_the_users_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert home().root == tmp_path / "nemotron"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert home().root == Path.home() / ".cache/nemotron"
