"""Weights are copied into the store verified, or refused with the name of the file that is wrong."""

import errno
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from nemotron_api.build import WeightsRequest
from nemotron_api.errors import ChecksumMismatch, InvalidModel, NemotronError, SourceError, VolumeFull, WeightsInvalid
from nemotron_build import job
from nemotron_build.checkpoint import inspect
from nemotron_build.digest import digest_of, hash_tree
from nemotron_build.folder import Folder
from nemotron_build.progress import report, silent
from nemotron_build.sealed import Sealed
from nemotron_build.source import Access
from nemotron_build.store import SLACK_BYTES, Store
from tests.builders.checkpoint_files import CONFIG, a_checkpoint, a_tensor_file, shapes, write_sums

pytestmark = pytest.mark.unit


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def fetch(checkpoint: Path, store: Store, digest: str | None = None, log: Callable[[str], None] = silent) -> Sealed:
    request = WeightsRequest(uri=f"pvc://models/{checkpoint.name}", digest=digest, store="claim")
    return job.make(request, store, Access(claim=checkpoint.parent), log)


def edit(checkpoint: Path, file: str, **changes: Any) -> None:
    (checkpoint / file).write_text(json.dumps(json.loads((checkpoint / file).read_text()) | changes))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("sums", [True, False])
def test_every_file_arrives_and_the_manifest_lists_it(tmp_path: Path, store: Store, shards: int, sums: bool) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint", shards=shards, sums=sums)

    fetched = fetch(checkpoint, store)

    assert fetched.manifest.files == hash_tree(checkpoint)
    for file in fetched.manifest.files:
        assert (fetched.directory / file.path).read_bytes() == (checkpoint / file.path).read_bytes()
    assert fetched.manifest.record == {
        "parameters": inspect(Folder(checkpoint, checkpoint)).parameters,
        "layers": "ME*-",
    }


def test_the_digest_of_the_spec_is_the_digest_of_the_manifest(tmp_path: Path, store: Store) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint", sums=True)
    digest = digest_of(hash_tree(checkpoint))

    assert fetch(checkpoint, store, digest).manifest.digest == digest


def test_another_digest_is_refused_with_both_and_the_log_lists_the_files(tmp_path: Path, store: Store) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint")
    promised, actual, log = f"sha256:{'0' * 64}", digest_of(hash_tree(checkpoint)), list[str]()

    with pytest.raises(ChecksumMismatch) as failure:
        fetch(checkpoint, store, promised, log.append)

    assert promised in str(failure.value)
    assert actual in str(failure.value)
    assert any("  model.safetensors" in line for line in log)
    assert list((store.root / "weights").iterdir()) == []


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_that_rotted_is_named(tmp_path: Path, store: Store, file: str) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint", sums=True)
    content = bytearray((checkpoint / file).read_bytes())
    content[-1] ^= 0xFF
    (checkpoint / file).write_bytes(content)

    with pytest.raises((ChecksumMismatch, InvalidModel), match=file):
        fetch(checkpoint, store)


def test_a_truncated_shard_is_named_with_both_sizes(tmp_path: Path, store: Store) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint", shards=2, sums=True)
    shard = checkpoint / "model-00002-of-00002.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-100])

    with pytest.raises(WeightsInvalid) as failure:
        fetch(checkpoint, store)

    assert f"{shard.name} is truncated" in str(failure.value)
    assert str(len(whole)) in str(failure.value)
    assert str(len(whole) - 100) in str(failure.value)
    assert not (
        store.root / "weights" / WeightsRequest(uri="pvc://models/checkpoint", store="claim").fingerprint
    ).exists()


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        pytest.param(
            lambda c: edit(c, "config.json", model_type="llama"), InvalidModel, "'llama'", id="another-architecture"
        ),
        pytest.param(lambda c: (c / "config.json").unlink(), InvalidModel, "no config.json", id="no-config"),
        pytest.param(lambda c: (c / "config.json").write_text("{"), InvalidModel, "config.json", id="broken-config"),
        pytest.param(
            lambda c: (c / "config.json").write_text("[]"), InvalidModel, "not a JSON object", id="odd-config"
        ),
        pytest.param(
            lambda c: edit(c, "config.json", mamba_head_dim=8),
            WeightsInvalid,
            "in_proj.weight in model.safetensors has shape [52, 8], config.json asks for [84, 8]",
            id="config-of-another-size",
        ),
        pytest.param(
            lambda c: edit(c, "config.json", hybrid_override_pattern="ME*-M"),
            WeightsInvalid,
            "tensor layers.4.norm.weight is missing",
            id="a-layer-too-few",
        ),
        pytest.param(
            lambda c: edit(c, "config.json", hybrid_override_pattern="ME*"),
            WeightsInvalid,
            "tensor layers.3.mixer.down_proj.weight in model.safetensors is nothing that config.json explains",
            id="a-layer-too-many",
        ),
        pytest.param(lambda c: (c / "tokenizer.json").unlink(), WeightsInvalid, "no tokenizer.json", id="no-tokenizer"),
        pytest.param(
            lambda c: (c / "model.safetensors").rename(c / "pytorch_model.bin"),
            WeightsInvalid,
            "neither model.safetensors nor model.safetensors.index.json",
            id="another-format",
        ),
        pytest.param(lambda c: (c / "manifest.json").write_text("{}"), WeightsInvalid, "manifest.json", id="our-name"),
        pytest.param(lambda c: (c / "SHA256SUMS").write_text(""), ChecksumMismatch, "does not list", id="empty-sums"),
        pytest.param(
            lambda c: (write_sums(c), (c / "extra").write_text("")),
            ChecksumMismatch,
            "SHA256SUMS does not list extra",
            id="unlisted",
        ),
        pytest.param(
            lambda c: ((c / "extra").write_text(""), write_sums(c), (c / "extra").unlink()),
            ChecksumMismatch,
            "SHA256SUMS lists extra, which is not there",
            id="listed-and-gone",
        ),
    ],
)
def test_a_checkpoint_that_cannot_be_served_is_refused_with_a_sentence(
    tmp_path: Path, store: Store, damage: Callable[[Path], object], error: type[NemotronError], says: str
) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint")
    damage(checkpoint)

    with pytest.raises(error) as failure:
        fetch(checkpoint, store)

    assert says in str(failure.value)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        pytest.param({"weight_map": {"t": "gone.safetensors"}}, "gone.safetensors, which is not there", id="file-gone"),
        pytest.param({}, "no weight_map", id="no-map"),
        pytest.param({"weight_map": {"t": 1}}, "no weight_map", id="no-file-names"),
        pytest.param(
            {"weight_map": {"t": "model-00001-of-00002.safetensors"}}, "holds tensor t, and it does not", id="not-in-it"
        ),
    ],
)
def test_an_index_that_does_not_fit_its_files_is_refused(
    tmp_path: Path, store: Store, index: Mapping[str, Any], says: str
) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint", shards=2)
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(WeightsInvalid) as failure:
        fetch(checkpoint, store)

    assert says in str(failure.value)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path, store: Store) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint", shards=2)
    first = (checkpoint / "model-00001-of-00002.safetensors").read_bytes()
    (checkpoint / "model-00002-of-00002.safetensors").write_bytes(first)

    with pytest.raises(WeightsInvalid, match="copy both again"):
        fetch(checkpoint, store)


def test_a_quantised_tensor_is_refused_by_its_type(tmp_path: Path, store: Store) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint")
    tensors = {f"backbone.{name}": tensor for name, tensor in shapes(CONFIG).items()}
    entry = {"dtype": "F8_E4M3", "shape": [32, 16], "data_offsets": [0, 512]}
    (checkpoint / "model.safetensors").write_bytes(a_tensor_file(tensors, **{"backbone.embeddings.weight": entry}))

    with pytest.raises(WeightsInvalid, match=r"embeddings\.weight in model\.safetensors is F8_E4M3"):
        fetch(checkpoint, store)


def test_stacked_experts_and_the_standard_prefix_are_read_too(tmp_path: Path, store: Store) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint")
    plain = shapes(CONFIG)
    stacked = {f"model.{name}": shape for name, shape in plain.items() if ".experts." not in name}
    for name in ("up_proj", "down_proj"):
        shape = plain[f"layers.1.mixer.experts.0.{name}.weight"]
        stacked[f"model.layers.1.mixer.experts.{name}"] = (CONFIG["n_routed_experts"], *shape)
    (checkpoint / "model.safetensors").write_bytes(a_tensor_file(stacked | {"mtp.layers.0.norm.weight": (8,)}))

    assert fetch(checkpoint, store).manifest.record["layers"] == "ME*-"


@pytest.mark.parametrize("shape", [(), (10**12, 0), (3, 6, 4)])
def test_a_stack_of_another_number_of_experts_is_refused(tmp_path: Path, store: Store, shape: tuple[int, ...]) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint")
    (checkpoint / "model.safetensors").write_bytes(a_tensor_file({"model.layers.1.mixer.experts.up_proj": shape}))

    with pytest.raises(WeightsInvalid, match=r"experts\.up_proj in model\.safetensors is nothing that"):
        fetch(checkpoint, store)


def test_a_second_build_reuses_the_first(tmp_path: Path, store: Store) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint")
    log: list[str] = []
    first = fetch(checkpoint, store)

    assert fetch(checkpoint, store, log=log.append) == first
    assert any("already in the store" in line for line in log)


def test_with_a_digest_the_source_is_not_even_opened_again(tmp_path: Path, store: Store) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint")
    digest = digest_of(hash_tree(checkpoint))
    first = fetch(checkpoint, store, digest)
    checkpoint.rename(tmp_path / "gone")

    assert fetch(checkpoint, store, digest) == first


def test_without_a_digest_a_source_that_changed_is_fetched_again(tmp_path: Path, store: Store) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint")
    first = fetch(checkpoint, store)
    (checkpoint / "tokenizer.json").write_text('{"changed": true}')

    second = fetch(checkpoint, store)

    assert second.manifest.fingerprint == first.manifest.fingerprint
    assert second.manifest.digest == digest_of(hash_tree(checkpoint)) != first.manifest.digest


def test_a_damaged_artifact_is_fetched_again(tmp_path: Path, store: Store) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint")
    first = fetch(checkpoint, store)
    (first.directory / "model.safetensors").write_bytes(b"rotten")

    assert fetch(checkpoint, store).manifest.files == first.manifest.files


def test_a_source_that_fails_in_the_middle_is_not_a_full_volume(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint")

    def fail(_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nemotron_build.digest.chunks", fail)

    with pytest.raises(SourceError, match=r"config\.json cannot be read to its end"):
        fetch(checkpoint, store)


def test_a_volume_that_fills_up_while_it_is_written_is_left_clean(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There was room when it was asked for, and another writer was faster."""
    checkpoint = a_checkpoint(tmp_path / "checkpoint")
    total = sum(file.bytes for file in hash_tree(checkpoint))
    opened = Path.open

    def full(path: Path, mode: str = "r", **more: Any) -> Any:
        if mode == "xb" and path.name == "tokenizer.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, **more)

    monkeypatch.setattr(Path, "open", full)

    with pytest.raises(VolumeFull, match=f"needs {total + SLACK_BYTES} bytes"):
        fetch(checkpoint, store)
    assert list((store.root / "weights").iterdir()) == []


def test_progress_is_told_at_most_once_per_interval() -> None:
    clock, log = iter([0.0, 3.0, 11.0, 12.0, 25.0]), list[str]()
    on_bytes = report(log.append, "copied", 4_000_000_000, every=10.0, now=lambda: next(clock))

    for _ in range(4):
        on_bytes(1_000_000_000)

    assert log == ["copied 2.0 GB of 4.0 GB (50 %), 11 s left", "copied 4.0 GB of 4.0 GB (100 %), 0 s left"]
