"""Weights come from a hub whole and verified, go on where they stopped, and are refused with what to do about it."""

from collections import Counter
from pathlib import Path

import pytest

from nemotron_api.build import WeightsRequest
from nemotron_api.errors import ChecksumMismatch, InvalidSpec, NemotronError, SourceError, SourceNotFound, SourceRefused
from nemotron_build import job
from nemotron_build.digest import digest_of, hash_tree
from nemotron_build.progress import Log, silent
from nemotron_build.sealed import Sealed
from nemotron_build.source import Access
from nemotron_build.store import Store
from tests.builders.checkpoint_files import a_checkpoint
from tests.builders.hub import COMMIT, REPOSITORY, FakeHub, a_hub

pytestmark = pytest.mark.contract


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return a_checkpoint(tmp_path / "checkpoint", shards=3)


def fetch(
    hub: FakeHub,
    store: Store,
    *,
    uri: str | None = None,
    digest: str | None = None,
    token: str | None = None,
    log: Log = silent,
) -> Sealed:
    request = WeightsRequest(uri=uri or hub.uri, digest=digest, store="claim")
    return job.make(request, store, Access(hub_endpoint=hub.endpoint, hub_token=token), log)


def largest(hub: FakeHub) -> str:
    return max(hub.files, key=lambda path: len(hub.files[path]))


def test_every_file_of_the_commit_arrives_and_the_manifest_lists_it(checkpoint: Path, store: Store) -> None:
    with a_hub(checkpoint) as hub:
        fetched = fetch(hub, store, digest=digest_of(hash_tree(checkpoint)))

    assert fetched.manifest.files == hash_tree(checkpoint)
    for path, content in hub.files.items():
        assert (fetched.directory / path).read_bytes() == content
    assert not (store.root / "partial").exists() or list((store.root / "partial").iterdir()) == []


def test_what_is_no_part_of_a_checkpoint_stays_where_it_is(checkpoint: Path, store: Store) -> None:
    for path in ("model.gguf", ".gitattributes", "modeling_nemotron_h.py", "original/consolidated.pth"):
        (checkpoint / path).parent.mkdir(exist_ok=True)
        (checkpoint / path).write_bytes(b"not wanted")
    with a_hub(checkpoint) as hub:
        fetched = fetch(hub, store)

    assert not {file.path for file in fetched.manifest.files} & {"model.gguf", ".gitattributes"}
    assert not any(path.endswith((".py", ".pth", ".gguf")) for path in hub.sent)


def test_a_commit_that_is_in_the_store_is_not_fetched_again(checkpoint: Path, store: Store) -> None:
    with a_hub(checkpoint) as hub:
        first = fetch(hub, store)
        asked = len(hub.asked)
        assert fetch(hub, store) == first
        assert len(hub.asked) == asked


def test_headers_are_checked_before_any_shard_is_fetched(checkpoint: Path, store: Store) -> None:
    shard = sorted(checkpoint.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-4])
    with a_hub(checkpoint) as hub, pytest.raises(NemotronError, match=shard.name):
        fetch(hub, store)

    assert not any(asked == ("HEAD", f"/{REPOSITORY}/resolve/{COMMIT}/{shard.name}", "") for asked in hub.asked)
    assert not (store.root / "partial").exists()


def test_a_connection_that_breaks_goes_on_where_it_was(checkpoint: Path, store: Store) -> None:
    with a_hub(checkpoint) as hub:
        fetch(hub, Store(store.root / "whole"))
        whole = Counter(hub.sent)
    # The first reads only look at headers.
    with a_hub(checkpoint, cut_after=100, cuts=3) as hub:
        fetched = fetch(hub, store)

    assert fetched.manifest.files == hash_tree(checkpoint)
    assert any(ranged.startswith("bytes=") for _, _, ranged in hub.asked)
    assert hub.sent[largest(hub)] <= whole[largest(hub)] + 1000


def test_the_next_attempt_goes_on_where_the_last_one_stopped(checkpoint: Path, store: Store) -> None:
    with a_hub(checkpoint) as hub:
        path = largest(hub)
        size = len(hub.files[path])
        hub.corrupt[path] = hub.files[path][:-1] + b"?"
        with pytest.raises(ChecksumMismatch, match=path):
            fetch(hub, store)
        sent = Counter(hub.sent)
        hub.corrupt.clear()

        fetch(hub, store)

    again = hub.sent - sent
    assert again[path] >= size
    # of the others at most their headers were looked at once more
    for other in (other for other in hub.files if other.endswith(".safetensors") and other != path):
        assert not any(asked == ("GET", f"/storage/{other}", "") for asked in hub.asked[-3:])
        assert again[other] <= len(hub.files[other])


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_is_busy_is_asked_again(checkpoint: Path, store: Store, status: int) -> None:
    with a_hub(checkpoint) as hub:
        hub.refusals[status] = 2
        fetched = fetch(hub, store)

    assert fetched.manifest.files == hash_tree(checkpoint)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
def test_a_file_that_is_not_what_the_hub_says_is_named_and_not_kept(
    checkpoint: Path, store: Store, suffix: str
) -> None:
    with a_hub(checkpoint) as hub:
        path = {".safetensors": largest(hub), ".json": "tokenizer.json"}[suffix]
        content = bytearray(hub.files[path])
        content[-1] ^= 1
        hub.corrupt[path] = bytes(content)
        with pytest.raises(ChecksumMismatch, match=path):
            fetch(hub, store)

    assert not list((store.root / "partial").rglob(Path(path).name))
    assert list((store.root / "weights").iterdir()) == []


def test_a_token_is_given_to_the_hub_and_to_nobody_else(checkpoint: Path, store: Store) -> None:
    with a_hub(checkpoint, token="hf_secret") as hub:
        fetch(hub, store, token="hf_secret")

    assert hub.tokens_seen_by_storage
    assert set(hub.tokens_seen_by_storage) == {""}


@pytest.mark.parametrize("token", [None, "hf_another"])
def test_who_may_not_read_is_told_to_bring_a_token_that_may(
    checkpoint: Path, store: Store, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")  # of the machine, which nobody named
    with (
        a_hub(checkpoint, token="hf_secret") as hub,
        pytest.raises(SourceRefused, match=r"HF_TOKEN, in source\.secretRef"),
    ):
        fetch(hub, store, token=token)


def test_a_gated_repository_asks_for_its_licence(checkpoint: Path, store: Store) -> None:
    with a_hub(checkpoint, gated=True) as hub, pytest.raises(SourceRefused, match="accept its licence"):
        fetch(hub, store)


@pytest.mark.parametrize(
    ("uri", "error", "says"),
    [
        (f"hf://{REPOSITORY}@main", InvalidSpec, "40 hex digits of a commit"),
        (f"hf://{REPOSITORY}", InvalidSpec, "names no commit"),
        (f"hf://../../etc@{COMMIT}", InvalidSpec, "names no commit"),
        (f"hf://{REPOSITORY}@{COMMIT[:39]}f", SourceNotFound, "check the commit"),
        (f"hf://nvidia/nothing@{COMMIT}", SourceNotFound, "check the name"),
    ],
)
def test_what_is_not_there_is_said_to_be_missing(
    checkpoint: Path, store: Store, uri: str, error: type[NemotronError], says: str
) -> None:
    with a_hub(checkpoint) as hub, pytest.raises(error, match=says):
        fetch(hub, store, uri=uri)


def test_a_hub_that_does_not_answer_is_a_source_that_cannot_be_reached(checkpoint: Path, store: Store) -> None:
    with a_hub(checkpoint) as hub:
        pass
    with pytest.raises(SourceError) as failure:
        fetch(hub, store)

    assert failure.value.reason == "SourceUnreachable"
    assert "Traceback" not in str(failure.value)


def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_is_fetched(
    checkpoint: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "free_bytes", property(lambda _: 1000))
    with a_hub(checkpoint) as hub, pytest.raises(NemotronError, match="1000 free"):
        fetch(hub, store)

    assert not (store.root / "partial").exists()
