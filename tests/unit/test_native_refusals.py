"""What the library would misread never reaches it, and where it is missing an engine says what to do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nemotron_api.errors import KernelUnavailable
from nemotron_kernels import native
from nemotron_kernels.native import Linear, Mlp, NativeMissing, Network, Piece, Plan, Routing, library
from nemotron_runtime import pack
from nemotron_runtime.config import load_config
from nemotron_runtime.executor import open_executor
from nemotron_runtime.native import describe
from tests.builders.checkpoints import a_checkpoint
from tests.builders.native import native_opener

pytestmark = pytest.mark.unit


D = 8


def a_network(**changes: Any) -> Network:
    """One MLP."""
    network = Network(
        embeddings=torch.zeros(5, D),
        blocks=(Mlp(torch.ones(D), Linear(torch.ones(6, D)), Linear(torch.ones(D, 6))),),
        norm=torch.ones(D),
        head=Linear(torch.ones(5, D)),
        eps=1e-5,
        routing=Routing(),
        query_heads=1,
        block_tokens=16,
    )
    return replace(network, **changes)


def with_up(weight: torch.Tensor) -> Network:
    return a_network(blocks=(Mlp(torch.ones(D), Linear(weight), Linear(torch.ones(D, 6))),))


@pytest.mark.parametrize(
    ("network", "said"),
    [
        pytest.param(lambda: a_network(norm=torch.ones(D + 1)), "final norm must be torch.float32", id="shape"),
        pytest.param(lambda: a_network(norm=torch.ones(D).double()), "torch.float64", id="type"),
        pytest.param(lambda: with_up(torch.ones(6, D).bfloat16()), "up_proj must be torch.float32", id="mixed-types"),
        pytest.param(lambda: with_up(torch.ones(D, 6).T), "call contiguous", id="strides"),
        pytest.param(lambda: with_up(torch.ones(6, D, device="meta")), "lies on meta", id="device"),
        pytest.param(lambda: a_network(embeddings=torch.ones(5, D).half()), "FP32 and BF16", id="type-of-all"),
    ],
)
def test_tensors_it_would_misread_are_refused_by_name(network: Callable[[], Network], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Plan(network())


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refusals")
    pack(a_checkpoint(folder / "checkpoint"), folder / "engine", dtype="FP32", max_batch=2, max_sequence_tokens=32)
    return folder / "engine"


PIECE = Piece((3,), slot=0, start=20, anchor=0, is_due=False)
TABLES = torch.tensor([[1, 2]])


@pytest.mark.parametrize(
    ("pieces", "tables", "yields", "said"),
    [
        pytest.param([replace(PIECE, tokens=())], TABLES, [], "must be one or more", id="no-token"),
        pytest.param([replace(PIECE, tokens=(61,))], TABLES, [], "must be one or more of 61", id="no-such-token"),
        pytest.param([replace(PIECE, slot=3)], TABLES, [], "slot 3 is none of 3", id="no-such-slot"),
        pytest.param([replace(PIECE, slot=-1)], TABLES, [], "slot -1", id="slot-below"),
        pytest.param([replace(PIECE, anchor=8)], TABLES, [], "no multiple of 16", id="anchor-amid-a-block"),
        pytest.param([replace(PIECE, anchor=32)], TABLES, [], "up to 20", id="anchor-ahead"),
        pytest.param([replace(PIECE, is_due=True)], TABLES, [], "needs a block before", id="commit-of-nothing"),
        pytest.param([PIECE], TABLES, [1], "among 1 rows", id="no-such-row"),
        pytest.param([PIECE], TABLES[:, :1], [], "hold no 21 tokens", id="short-tables"),
        pytest.param([PIECE], TABLES * 3, [], "pages beyond the 5", id="no-such-page"),
        pytest.param([PIECE], -TABLES, [], "pages beyond", id="page-below"),
        pytest.param([PIECE], TABLES.int(), [], "tables must be torch.int64", id="type-of-tables"),
        pytest.param([PIECE, PIECE], TABLES, [], "tables must be", id="a-table-too-few"),
        pytest.param([replace(PIECE, start=48)], torch.ones(1, 4).long(), [], "ring of 48 places", id="long-tail"),
    ],
)
def test_numbers_that_point_outside_are_refused_and_nothing_is_written(
    engine: Path, pieces: list[Piece], tables: torch.Tensor, yields: list[int], said: str
) -> None:
    config, executor = open_executor(engine, load_config(engine), threads=1, kernels="torch")
    plan = Plan(describe(config, executor._network, executor.memory))
    before = [stack.clone() for stack in executor.memory.stacks]

    with pytest.raises(ValueError, match=said):
        plan.run(pieces, tables, yields)

    assert all(torch.equal(*pair) for pair in zip(before, executor.memory.stacks, strict=True))


@pytest.mark.parametrize("options", [{"threads": 0}, {"isa": 0}, {"isa": 99}])
def test_a_plan_for_no_thread_or_no_processor_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"thread|instructions"):
        Plan(a_network(), **options)


def test_a_closed_plan_computes_nothing() -> None:
    plan = Plan(a_network(), threads=2)
    plan.run([PIECE], TABLES, [0])
    plan.close()
    plan.close()

    with pytest.raises(ValueError, match="closed"):
        plan.run([PIECE], TABLES, [0])


def test_a_step_of_no_wanted_row_gives_none() -> None:
    logits, normed = Plan(a_network()).run([PIECE, replace(PIECE, tokens=(1, 2))], TABLES, [], wants_normed=True)

    assert logits.shape == (0, 5)
    assert normed is not None
    assert normed.shape == (3, D)


def test_an_engine_without_the_library_does_not_open_unless_torch_is_asked_for(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "why_missing", lambda: "this processor lacks AVX2")

    with pytest.raises(KernelUnavailable, match=r'AVX2.*kernels="torch"'):
        open_executor(engine, load_config(engine), threads=1)
    open_executor(engine, load_config(engine), threads=1, kernels="torch")


def test_a_file_that_is_no_library_is_told_from_one_of_another_version(tmp_path: Path) -> None:
    broken = tmp_path / "lib.so"
    broken.write_text("nothing")

    with pytest.raises(NativeMissing, match=r"cannot be loaded.*make python"):
        library.load(broken)
    with pytest.raises(NativeMissing, match="has no nk_version"):
        library.load(Path(torch.__file__).parent / "lib/libc10.so")


def test_one_thread_starts_none_and_more_end_with_the_plan(engine: Path) -> None:
    def threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    before = threads()
    _, one = native_opener(threads=1)(engine, load_config(engine))
    assert threads() == before
    plan = Plan(a_network(), threads=3)
    assert threads() == before + 2
    plan.close()
    assert threads() == before
    del one
