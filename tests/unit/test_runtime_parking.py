"""A session that lost its place is kept to the bit, in memory or in a file, and its file is there no longer than it."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from nemotron_runtime import HybridEngine, SamplingParams, Terms
from nemotron_runtime.config import load_config
from nemotron_runtime.executor import TorchExecutor, open_executor
from nemotron_runtime.opening import open_ledger
from nemotron_runtime.parking import SUFFIX, InFiles, InMemory, Parking
from tests.builders.gate import a_packed_engine, until
from tests.builders.numbers import random
from tests.builders.streams import Stream, generate, start

pytestmark = pytest.mark.unit

LONG = SamplingParams(max_tokens=200, ignore_eos=True)
PROMPT = [7] * 37


@pytest.fixture(scope="module")
def directory(tmp_path_factory: Any) -> Path:
    return a_packed_engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture
def parked(tmp_path: Path) -> Path:
    return tmp_path / "parked"


def some_content() -> list[Tensor]:
    """One tensor of each type that sequences are made of, some of them pieces of larger ones."""
    dtypes = torch.float32, torch.float64, torch.bfloat16, torch.float16
    return [random(3, 4, 5, seed=seed, dtype=dtype)[:, 1] for seed, dtype in enumerate(dtypes)]


def test_what_is_kept_comes_back_to_the_bit(parked: Path) -> None:
    for parking in (InMemory(), InFiles(parked)):
        kept = _kept(parking)
        for given, expected in zip(kept, some_content(), strict=True):
            assert given.dtype == expected.dtype
            assert torch.equal(given, expected)


def _kept(parking: Parking) -> tuple[Tensor, ...]:
    return parking.keep(some_content()).content()


def test_a_file_is_there_for_as_long_as_its_session(parked: Path) -> None:
    parking = InFiles(parked)
    first, second = parking.keep(some_content()), parking.keep(some_content())
    assert len(list(parked.iterdir())) == 2

    del first

    assert [torch.equal(a, b) for a, b in zip(second.content(), some_content(), strict=True)] == [True] * 4
    assert len(list(parked.iterdir())) == 1


def test_what_a_killed_engine_left_is_removed_and_nothing_else(parked: Path) -> None:
    parked.mkdir()
    (parked / f"7{SUFFIX}").touch()
    (parked / "mine").touch()

    InFiles(parked)

    assert [path.name for path in parked.iterdir()] == ["mine"]


def test_a_directory_that_takes_no_file_costs_no_session(parked: Path, caplog: pytest.LogCaptureFixture) -> None:
    parking = InFiles(parked)
    parked.rmdir()

    with caplog.at_level(logging.WARNING):
        kept = parking.keep(some_content())

    assert torch.equal(kept.content()[0], some_content()[0])
    assert f"as {parked} takes no file" in caplog.text


class World:
    """An engine with room for one sequence, that parks it in files for another one of higher priority."""

    def __init__(self, directory: Path, parked: Path) -> None:
        self.parked = parked
        runtime = replace(load_config(directory), max_batch=1)
        config, executor = open_executor(directory, runtime, threads=1, park_directory=parked)
        self.executor: TorchExecutor = executor
        ledger = open_ledger(config, runtime)
        self.engine = HybridEngine(executor, ledger, runtime, vocab_size=config.vocab_size, max_waiting=9)

    def files(self) -> list[Path]:
        return list(self.parked.iterdir())

    def park_one(self) -> tuple[Stream, Stream]:
        """A stream that is parked by now, and the one it is parked for."""
        low = start(self.engine, PROMPT, LONG)
        low.next()
        high = start(self.engine, [5, 6], SamplingParams(max_tokens=500, ignore_eos=True), Terms(priority=1))
        high.next()
        return low, high


@pytest.fixture
def world(directory: Path, parked: Path) -> Iterator[World]:
    world = World(directory, parked)
    yield world
    world.engine.close()
    assert world.files() == []


def test_a_parked_session_takes_its_slots_and_its_pages_bytes(world: World) -> None:
    low, _ = world.park_one()
    (file,) = world.files()
    with safe_open(file, "pt") as content:
        taken = sum(content.get_tensor(name).nbytes for name in content.keys())  # noqa: SIM118 - it is no mapping

    # then it has a slot, and the pages of the tokens it had computed
    memory = world.executor.memory
    pages, rest = divmod(taken - memory.slot_bytes, memory.page_bytes)
    assert rest == 0
    assert pages >= -(-len(PROMPT) // memory.page_tokens)
    world.engine.abort(low.id)
    assert low.finish().finish_reason == "aborted"
    until(lambda: not world.files())


def test_a_session_that_goes_on_answers_as_if_it_had_never_been_parked(world: World) -> None:
    low, high = world.park_one()
    world.engine.abort(high.id)

    answer = low.tokens()

    assert world.engine.stats().preemptions == 1
    assert world.files() == []
    assert answer == generate(world.engine, [PROMPT], LONG)[0]


def test_a_closed_engine_leaves_no_file(world: World) -> None:
    low, high = world.park_one()

    world.engine.close()

    assert world.files() == []
    assert {low.finish().finish_reason, high.finish().finish_reason} == {"aborted"}
