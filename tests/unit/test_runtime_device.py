"""An engine computes on its executor's device: nothing strays onto the host, and a step's numbers go over at once."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nemotron_api.errors import EngineMismatch
from nemotron_api.hybrid_config import MOE, read_config
from nemotron_runtime import open_engine, pack
from nemotron_runtime.config import load_config
from nemotron_runtime.device import choose_device, round_as_typed
from nemotron_runtime.memory import Memory
from nemotron_runtime.transfer import transferred
from tests.builders.checkpoints import TINY, a_checkpoint
from tests.builders.company import Ask, Guesser, Prefix, Recorder, Room, serve
from tests.builders.elsewhere import NAME, Elsewhere, ElsewhereExecutor, Far, open_elsewhere

pytestmark = pytest.mark.unit

TRAINED = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"
HERE, THERE = torch.device("cpu"), torch.device(NAME, 0)
DTYPES = (torch.int64, torch.float32, torch.bfloat16, torch.bool)


def an_engine(root: Path, formats: Mapping[str, Any] | None = None, **changes: Any) -> Path:
    checkpoint = a_checkpoint(root / "checkpoint", **changes)
    pack(checkpoint, root / "engine", dtype="FP32", max_batch=4, max_sequence_tokens=96, **formats or {})
    return root / "engine"


def a_crowd() -> list[Ask]:
    """Prompts some of which begin as others do, in one piece or in several, greedy and sampled."""
    dice = random.Random(5)
    stem = [dice.randrange(TINY["vocab_size"]) for _ in range(40)]
    return [Ask((*stem[: 8 * (n % 6)], n, *stem[: 3 * n]), 9, n % 2, 0.5 * (n % 3)) for n in range(7)]


def copies(recorder: Recorder) -> tuple[list[int], list[int]]:
    """How many a step sent to the device and how many it fetched: all numbers that came up."""
    assert isinstance(recorder.executor, ElsewhereExecutor)
    sent, fetched = zip(*recorder.executor.runs, strict=True)
    return sorted(set(sent)), sorted(set(fetched))


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "fast"])
def test_a_step_elsewhere_sends_one_copy_and_gives_the_same(exact: bool, tmp_path: Path) -> None:
    # given drafts, prefix hits and preemptions
    directory, asks, logits = an_engine(tmp_path), a_crowd(), dict[Prefix, Tensor]()
    expected, _, _ = serve(directory, asks, Room(), logits, exact=True)
    answers = {ask.prompt: answer for ask, answer in zip(asks, expected, strict=True)}
    guesser = Guesser(answers, random.Random(2), TINY["vocab_size"])
    room = Room(pages=9, prefill_tokens=24)

    elsewhere, recorder, engine = serve(directory, asks, room, logits, guesser, exact=exact, opener=open_elsewhere)

    stats = engine.stats()
    assert elsewhere == expected
    assert recorder.differing == [] or not exact
    assert min(stats.accepted_tokens, stats.preemptions, stats.prefix_hit_tokens) > 0
    # then blocks of experts alone ask the device something: which of them were chosen
    assert copies(recorder) == ([1], [read_config(directory).blocks(MOE)])


@pytest.mark.parametrize("formats", [{"state_dtype": "FP16"}, {"state_dtype": "INT8", "kv_dtype": "FP8"}])
def test_what_is_rounded_is_rounded_elsewhere(formats: dict[str, str], tmp_path: Path) -> None:
    directory, asks = an_engine(tmp_path, formats, hybrid_override_pattern="M*-"), a_crowd()
    logits: dict[Prefix, Tensor] = {}
    expected, _, _ = serve(directory, asks, Room(), logits, exact=True)

    room = Room(pages=9, prefill_tokens=24)
    elsewhere, recorder, engine = serve(directory, asks, room, logits, exact=True, opener=open_elsewhere)
    _, fast, _ = serve(directory, asks, room, {}, exact=False, opener=open_elsewhere)

    assert elsewhere == expected
    assert recorder.differing == []
    assert min(engine.stats().preemptions, engine.stats().prefix_hit_tokens) > 0
    assert copies(recorder) == copies(fast) == ([1], [0])


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "fast"])
def test_a_model_without_experts_never_waits_for_the_device(exact: bool, tmp_path: Path) -> None:
    directory, asks = an_engine(tmp_path, hybrid_override_pattern="M*-"), a_crowd()[:4]

    _, recorder, _ = serve(directory, asks, Room(prefill_tokens=24), {}, exact=exact, opener=open_elsewhere)

    assert copies(recorder) == ([1], [0])


def test_drafts_of_the_models_own_module_are_made_elsewhere_too(tmp_path: Path) -> None:
    pack(TRAINED, tmp_path, dtype="FP32", max_batch=4, max_sequence_tokens=96)
    asks, logits = a_crowd()[:2], dict[Prefix, Tensor]()
    expected, here, _ = serve(tmp_path, asks, Room(), logits, "module", exact=True, drafts={})

    elsewhere, there, engine = serve(
        tmp_path, asks, Room(), logits, "module", exact=True, drafts={}, opener=open_elsewhere
    )

    assert elsewhere == expected
    assert there.differing == []
    assert there.drafts == here.drafts
    assert engine.stats().drafted_tokens > 0


def test_what_is_put_aside_leaves_the_device(tmp_path: Path) -> None:
    directory = an_engine(tmp_path)
    with Elsewhere():
        memory = Memory(read_config(directory), load_config(directory), THERE)
        memory.stacks[0].fill_(3.0)

        content = memory.read(0, [1, 2])
        memory.clear_slot(0)
        memory.write(0, [1, 2], content)

        assert {part.device for part in content} == {HERE}
        assert {part.device for part in (*memory.stacks, memory.keys, memory.values)} == {THERE}
        assert bool((memory.stacks[0][:, 0] == 3.0).all())


def test_the_pretended_device_refuses_what_cuda_refuses() -> None:
    with Elsewhere() as mode:
        far = torch.ones(2, device=THERE)
        assert isinstance(far + 1, Far)
        with pytest.raises(AssertionError, match="two devices"):
            far + torch.ones(2)
        with pytest.raises(AssertionError, match="two devices"):
            far.index_select(0, torch.tensor([0]))
        assert (mode.traffic.sent, mode.traffic.fetched) == (0, 0)


@given(
    shapes=st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), min_size=1, max_size=3)), min_size=1)
)
def test_what_goes_over_in_one_copy_arrives_as_it_was(shapes: Sequence[tuple[torch.dtype, list[int]]]) -> None:
    chance = torch.Generator().manual_seed(len(shapes))
    tensors = tuple(torch.randint(2, shape, generator=chance).to(dtype) for dtype, shape in shapes)

    with Elsewhere() as mode:
        moved, number = transferred((tensors, 7), THERE)

        assert number == 7
        assert mode.traffic.sent == 1
        assert [(each.dtype, each.device) for each in moved] == [(each.dtype, THERE) for each in tensors]
        assert all(torch.equal(there.cpu(), here) for there, here in zip(moved, tensors, strict=True))


def test_on_the_cpu_nothing_is_copied() -> None:
    value = (torch.ones(2), None)

    assert transferred(value, HERE) is value


def test_without_cuda_an_engine_computes_on_the_cpu_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    directory = an_engine(tmp_path)

    assert choose_device(None) == HERE
    with pytest.raises(EngineMismatch, match="torch finds no CUDA device, but cuda:1 was asked for"):
        open_engine(directory, device="cuda:1")


def test_with_cuda_an_engine_computes_there_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    assert choose_device(None) == torch.device("cuda")
    assert choose_device("cpu") == HERE


def test_cuda_multiplies_fp32_as_fp32() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"

    round_as_typed()

    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
