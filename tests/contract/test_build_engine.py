"""From a checkpoint on a claim to an engine that generates: what the build Jobs promise runtime and backend."""

import json
import queue
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from google.protobuf import text_format
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup

from nemotron_api import tensors
from nemotron_api.build import EngineRequest, Limits, Manifest, Precision, WeightsRequest
from nemotron_api.errors import ChecksumMismatch, InvalidModel, NemotronError, SmokeFailed, SourceNotFound
from nemotron_backend import seal
from nemotron_build import job, repository, sealed
from nemotron_build.progress import silent
from nemotron_build.sealed import Sealed
from nemotron_build.smoke import PROMPT, TOKENS
from nemotron_build.source import Access
from nemotron_build.store import Store
from nemotron_runtime import SamplingParams, TokenEvent, open_engine
from nemotron_runtime.tails import MOST_TAPS
from tests.builders.checkpoints import a_checkpoint
from tests.builders.members import quantised

pytestmark = pytest.mark.contract

LIMITS = Limits(max_batch=2, max_sequence_tokens=32)


@pytest.fixture(scope="module")
def claim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume with a random tiny checkpoint, complete with a byte-level tokenizer."""
    torch.set_num_threads(1)
    claim = tmp_path_factory.mktemp("claim")
    a_checkpoint(claim / "tiny", vocab_size=256, shard_size="20KB")
    alphabet = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(claim / "tiny" / "tokenizer.json"))
    return claim


def fetch(claim: Path, store: Store) -> Sealed:
    return job.make(WeightsRequest(uri="pvc://models/tiny", store="store"), store, Access(claim=claim), silent)


def an_engine_of(weights: Sealed, precision: Precision = "FP32") -> EngineRequest:
    return EngineRequest(
        model="tiny",
        weights=weights.manifest.fingerprint,
        weights_digest=weights.manifest.digest,
        precision=precision,
        limits=LIMITS,
        runtime="backend@sha256:0",
        store="store",
    )


def build(request: EngineRequest, store: Store, log: Callable[[str], None] = silent) -> Sealed:
    return job.make(request, store, Access(), log)


def generate(engine: Path) -> tuple[int, ...]:
    """What the engine answers to the smoke test's prompt."""
    tokenizer = Tokenizer.from_file(str(engine / "tokenizer.json"))
    events: queue.SimpleQueue[TokenEvent] = queue.SimpleQueue()
    opened = open_engine(engine, threads=1)
    try:
        opened.submit(tokenizer.encode(PROMPT).ids, SamplingParams(max_tokens=TOKENS, ignore_eos=True), events.put)
        tokens = [events.get(timeout=120).token for _ in range(TOKENS)]
    finally:
        opened.close()
    return tuple(token for token in tokens if token is not None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.mark.parametrize("precision", ["FP32", "BF16"])
def test_an_engine_generates_what_its_manifest_says_it_generated(
    claim: Path, store: Store, precision: Precision
) -> None:
    built = build(an_engine_of(fetch(claim, store), precision), store)

    record = built.manifest.record
    assert len(record["smoke"]["tokens"]) == TOKENS
    assert generate(built.directory) == tuple(record["smoke"]["tokens"])
    assert record["weightBytes"] > record["parameters"] > 0


def test_an_engine_holds_what_a_server_needs(claim: Path, store: Store) -> None:
    built = build(an_engine_of(fetch(claim, store)), store)

    assert {file.path for file in built.manifest.files} == {
        "config.json",
        "generation_config.json",
        "model_repository/tiny/1/model.py",
        "model_repository/tiny/config.pbtxt",
        "runtime.json",
        "tokenizer.json",
        "weights.safetensors",
    }
    assert {"python", "torch", "numpy", "safetensors", "tokenizers"} <= built.manifest.versions.keys()
    assert {"cpu", "machine", "kernel"} <= built.manifest.host.keys()


def test_the_backend_accepts_the_seal_and_refuses_it_broken(claim: Path, store: Store) -> None:
    built = build(an_engine_of(fetch(claim, store)), store)

    assert seal.verify(built.directory, built.manifest_sha256) == built.manifest

    (built.directory / "tokenizer.json").write_text("{}")
    with pytest.raises(NemotronError, match=r"tokenizer\.json"):
        seal.verify(built.directory, built.manifest_sha256)


def test_a_quantised_checkpoint_is_decoded_and_log_and_manifest_say_so(
    claim: Path, store: Store, tmp_path: Path
) -> None:
    stored, _ = quantised(a_checkpoint(tmp_path / "claim" / "plain", vocab_size=256), {"*.in_proj": "FP8"})
    shutil.copy(claim / "tiny" / "tokenizer.json", stored.rename(tmp_path / "claim" / "tiny"))
    log: list[str] = []

    built = build(an_engine_of(fetch(tmp_path / "claim", store)), store, log.append)

    # 2 Mamba blocks of 6 heads of 10: z and x, B and C of 3 groups of 12, dt; from 40 inputs
    numbers = 2 * (2 * 60 + 2 * 3 * 12 + 6) * 40
    assert built.manifest.record["dequantised"] == {"FP8": numbers}
    assert f"decoded {numbers} of them from FP8; activations and KV cache are not quantised" in log


def test_the_same_engine_is_built_once(claim: Path, store: Store) -> None:
    request = an_engine_of(fetch(claim, store))
    log: list[str] = []
    first = build(request, store)

    assert build(request, store, log.append) == first
    assert not any(line.startswith("packed") for line in log)


def test_other_limits_are_another_engine(claim: Path, store: Store) -> None:
    request = an_engine_of(fetch(claim, store))
    wider = request.model_copy(update={"limits": Limits(max_batch=4, max_sequence_tokens=32)})

    assert build(request, store).directory != build(wider, store).directory


def test_every_file_of_the_weights_is_verified_before_an_engine_is_made(claim: Path, store: Store) -> None:
    weights = fetch(claim, store)
    for file in weights.manifest.files:
        path = weights.directory / file.path
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

        with pytest.raises(ChecksumMismatch, match=file.path):
            build(an_engine_of(weights), store)
        path.write_bytes(whole)

    assert build(an_engine_of(weights), store)


def test_weights_that_are_not_there_are_asked_for(claim: Path, store: Store) -> None:
    request = an_engine_of(fetch(claim, store)).model_copy(update={"weights": "0" * 64})

    with pytest.raises(SourceNotFound, match="not a sealed artifact"):
        build(request, store)


def test_weights_of_another_digest_are_refused(claim: Path, store: Store) -> None:
    request = an_engine_of(fetch(claim, store)).model_copy(update={"weights_digest": f"sha256:{'0' * 64}"})

    with pytest.raises(ChecksumMismatch, match="fetch the weights again"):
        build(request, store)


def poison(checkpoint: Path) -> None:
    """One weight that is no number: every header, shape and size stays right."""
    for shard in checkpoint.glob("*.safetensors"):
        content = load_file(shard)
        if "lm_head.weight" in content:
            content["lm_head.weight"][0, 0] = float("nan")
            save_file(content, shard, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        pytest.param(poison, "not finite", id="weights-that-are-no-numbers"),
        pytest.param(
            lambda c: (c / "tokenizer.json").write_text("{}"), "tokenizer.json cannot be read", id="tokenizer"
        ),
    ],
)
def test_an_engine_that_cannot_generate_is_not_sealed(
    claim: Path, store: Store, tmp_path: Path, damage: Callable[[Path], object], says: str
) -> None:
    shutil.copytree(claim, tmp_path / "claim")
    damage(tmp_path / "claim" / "tiny")
    weights = fetch(tmp_path / "claim", store)

    with pytest.raises(SmokeFailed, match=says):
        build(an_engine_of(weights), store)
    assert list((store.root / "engines").iterdir()) == []


def test_a_model_that_the_runtime_would_not_open_is_refused_before_an_engine_is_begun(
    tmp_path: Path, claim: Path, store: Store
) -> None:
    shutil.copytree(claim, tmp_path / "claim")
    a_checkpoint(tmp_path / "claim" / "tiny", vocab_size=256, shard_size="20KB", conv_kernel=MOST_TAPS + 2)
    weights = fetch(tmp_path / "claim", store)

    with pytest.raises(InvalidModel, match=f"serves models with conv_kernel up to {MOST_TAPS + 1}"):
        build(an_engine_of(weights), store)
    assert not (store.root / "engines").exists()


def test_the_model_repository_says_to_triton_what_the_table_says() -> None:
    config = text_format.Parse(repository.config("tiny"), ModelConfig())

    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "python", 0)
    assert config.model_transaction_policy.decoupled
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, ModelInstanceGroup.Kind.KIND_MODEL)]
    assert [(each.name, tuple(each.dims), each.optional) for each in config.input] == [
        (each.name, each.dims, True) for each in tensors.INPUTS
    ]
    assert [(each.name, tuple(each.dims)) for each in config.output] == [
        (each.name, each.dims) for each in tensors.OUTPUTS
    ]


def test_a_manifest_is_read_back_as_it_was_written(claim: Path, store: Store) -> None:
    built = build(an_engine_of(fetch(claim, store)), store)

    text = (built.directory / "manifest.json").read_text()
    assert Manifest.model_validate_json(text) == built.manifest
    assert json.loads(text)["request"]["limits"] == {"maxBatch": 2, "maxSequenceTokens": 32}
    sealed.verify(built)
