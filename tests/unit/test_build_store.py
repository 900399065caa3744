"""An artifact is in the store whole and sealed, or it is not there."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nemotron_api.build import COMPLETE, MANIFEST, Kind, Manifest
from nemotron_api.errors import ChecksumMismatch, InvalidSpec, SourceNotFound, VolumeFull, VolumeNotWritable
from nemotron_build import sealed, temporary
from nemotron_build.digest import digest_of, hash_tree
from nemotron_build.sealed import Sealed
from nemotron_build.store import SLACK_BYTES, Store

pytestmark = pytest.mark.unit

FINGERPRINT = "f" * 64
CONTENT = {"config.json": b"{}", "model.safetensors": b"weights" * 100, "folder/deep": b""}


def publish(store: Store, contents: dict[str, bytes] = CONTENT, kind: Kind = "Weights") -> Sealed:
    with store.draft(kind, FINGERPRINT, needed_bytes=sum(map(len, contents.values()))) as draft:
        for path, content in contents.items():
            (draft / path).parent.mkdir(parents=True, exist_ok=True)
            (draft / path).write_bytes(content)
        return store.seal(draft, manifest_of(draft, kind))


def manifest_of(directory: Path, kind: Kind = "Weights") -> Manifest:
    files = hash_tree(directory)
    return Manifest(kind=kind, fingerprint=FINGERPRINT, request={}, digest=digest_of(files), files=files)


def what_is_left_in(store: Store) -> list[str]:
    return sorted(os.listdir(store.root / "weights"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_what_was_published_is_read_back(store: Store) -> None:
    published = publish(store)

    found = store.open("Weights", FINGERPRINT)

    assert found == published
    assert found.manifest.total_bytes == sum(map(len, CONTENT.values()))
    assert {path: (found.directory / path).read_bytes() for path in CONTENT} == CONTENT
    assert what_is_left_in(store) == [FINGERPRINT]


def test_the_marker_is_a_line_that_sha256sum_prints(store: Store) -> None:
    published = publish(store)

    assert (published.directory / COMPLETE).read_text() == f"{published.manifest_sha256}  {MANIFEST}\n"


def test_nothing_is_there_before_it_is_sealed(store: Store) -> None:
    with store.draft("Weights", FINGERPRINT, needed_bytes=0) as draft:
        (draft / "file").write_text("half")

        with pytest.raises(SourceNotFound, match="not a sealed artifact"):
            store.open("Weights", FINGERPRINT)


def test_a_build_that_fails_leaves_nothing(store: Store) -> None:
    def break_off() -> None:
        with store.draft("Weights", FINGERPRINT, 0) as draft:
            (draft / "file").write_text("half")
            raise RuntimeError("the build broke")

    with pytest.raises(RuntimeError, match="the build broke"):
        break_off()
    assert what_is_left_in(store) == []


def test_weights_and_engines_are_kept_apart(store: Store) -> None:
    publish(store, kind="Engine")

    with pytest.raises(SourceNotFound):
        store.open("Weights", FINGERPRINT)


@pytest.mark.parametrize("fingerprint", ["", "../../etc", "F" * 64, "f" * 63, "f" * 64 + "\n"])
def test_only_a_fingerprint_names_a_directory(store: Store, fingerprint: str) -> None:
    with pytest.raises(InvalidSpec, match="not a fingerprint"):
        store.directory("Weights", fingerprint)


@pytest.mark.parametrize("path", [*CONTENT, MANIFEST, COMPLETE])
@given(data=st.data())
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_byte_anywhere_is_found_and_named(
    path: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    victim = publish(store).directory / path
    content = bytearray(victim.read_bytes())
    where = data.draw(st.integers(0, len(content)))
    content[where : where + 1] = b"\0"  # at the end: one byte more
    victim.write_bytes(content)

    with pytest.raises(ChecksumMismatch, match=MANIFEST if path == COMPLETE else path):
        sealed.verify(store.open("Weights", FINGERPRINT))


@pytest.mark.parametrize("path", CONTENT)
def test_a_file_that_is_gone_is_named(store: Store, path: str) -> None:
    (publish(store).directory / path).unlink()

    with pytest.raises(ChecksumMismatch, match=path):
        store.open("Weights", FINGERPRINT)


def test_a_file_that_was_added_is_named(store: Store) -> None:
    (publish(store).directory / "stowaway").write_text("")

    with pytest.raises(ChecksumMismatch, match="stowaway"):
        store.open("Weights", FINGERPRINT)


def test_an_intact_artifact_is_recovered_as_it_is(store: Store) -> None:
    published = publish(store)

    assert store.recover("Weights", FINGERPRINT) == published


def test_a_whole_artifact_whose_writer_died_before_the_marker_is_marked(store: Store) -> None:
    published = publish(store)
    (published.directory / COMPLETE).rename(published.directory / f".{COMPLETE}")

    with pytest.raises(SourceNotFound):
        store.open("Weights", FINGERPRINT)
    assert store.recover("Weights", FINGERPRINT) == published
    assert store.open("Weights", FINGERPRINT) == published


@pytest.mark.parametrize("path", [*CONTENT, MANIFEST, COMPLETE])
def test_a_damaged_artifact_is_removed_so_that_building_again_heals_it(store: Store, path: str) -> None:
    (publish(store).directory / path).write_bytes(b"damage")

    assert store.recover("Weights", FINGERPRINT) is None
    assert what_is_left_in(store) == []
    assert publish(store) == store.open("Weights", FINGERPRINT)


def test_leftovers_of_dead_writers_are_swept_and_living_drafts_are_not(store: Store) -> None:
    dead = store.root / "weights" / f".{FINGERPRINT}.tmp-dead"
    dead.mkdir(parents=True)
    (dead / "half").write_text("half")
    dead.with_name(dead.name + ".lock").touch()

    with store.draft("Weights", "a" * 64, 0) as living:
        assert store.recover("Weights", FINGERPRINT) is None
        assert living.is_dir()
        assert not dead.exists()
        assert temporary.sweep(store.root / "weights") == ()


def test_the_first_of_two_publishers_wins_and_both_are_content(store: Store) -> None:
    with store.draft("Weights", FINGERPRINT, 0) as slower:
        (slower / "file").write_text("slower")
        first = publish(store)

        assert store.seal(slower, manifest_of(slower)) == first

    assert store.open("Weights", FINGERPRINT) == first
    assert what_is_left_in(store) == [FINGERPRINT]


def test_many_builders_of_one_artifact_end_with_the_same_one(store: Store) -> None:
    def build(number: int) -> Sealed:
        found = store.recover("Weights", FINGERPRINT)
        return found or publish(store, CONTENT | {"builder": str(number).encode()})

    with ThreadPoolExecutor(8) as threads:
        built = list(threads.map(build, range(40)))

    assert {each.manifest_sha256 for each in built} == {store.open("Weights", FINGERPRINT).manifest_sha256}
    assert what_is_left_in(store) == [FINGERPRINT]


def test_a_file_that_the_manifest_does_not_list_is_never_sealed(store: Store) -> None:
    with store.draft("Weights", FINGERPRINT, 0) as draft:
        manifest = manifest_of(draft)
        (draft / "late").write_text("")

        with pytest.raises(ChecksumMismatch, match="late"):
            store.seal(draft, manifest)

    assert what_is_left_in(store) == []


def test_a_volume_without_room_is_refused_before_anything_is_written(store: Store) -> None:
    store.root.mkdir()
    needed = store.free_bytes * 2

    with pytest.raises(VolumeFull) as failure, store.draft("Weights", FINGERPRINT, needed):
        raise AssertionError("never entered")

    assert str(needed + SLACK_BYTES) in str(failure.value)
    assert "free: enlarge the volume" in str(failure.value)
    assert what_is_left_in(store) == []


def test_a_volume_that_may_not_be_written_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)

    with pytest.raises(VolumeNotWritable, match="set the pod's fsGroup"), store.draft("Weights", FINGERPRINT, 0):
        raise AssertionError("never entered")
