"""A session that lost its place is kept to the bit, in memory or in a file, and its file is there no longer than it."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from nemotron_runtime import HybridEngine, SamplingParams, Terms
from nemotron_runtime.config import load_config
from nemotron_runtime.executor import TorchExecutor, open_executor
from nemotron_runtime.memory import Memory
from nemotron_runtime.opening import open_ledger
from nemotron_runtime.parking import SUFFIX, InFiles, InMemory, Kept, open_parking
from nemotron_runtime.process import usable_memory
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


SIZE = 15 * (4 + 8 + 2 + 2)
"""Bytes of `some_content`."""


def some_content() -> list[Tensor]:
    """One tensor of each type that sequences are made of, some of them pieces of larger ones."""
    dtypes = torch.float32, torch.float64, torch.bfloat16, torch.float16
    return [random(3, 4, 5, seed=seed, dtype=dtype)[:, 1] for seed, dtype in enumerate(dtypes)]


def test_what_is_kept_comes_back_to_the_bit(parked: Path) -> None:
    for parking in (InMemory(SIZE), InFiles(parked)):
        kept = content_of(parking.keep(some_content()))
        for found, expected in zip(kept, some_content(), strict=True):
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)


def content_of(kept: Kept | None) -> tuple[Tensor, ...]:
    assert kept is not None
    return kept.content()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=20), st.integers(0, 60))
def test_memory_holds_no_more_than_it_may_and_forgets_what_nobody_has(acts: list[tuple[int, int]], limit: int) -> None:
    memory, kept = InMemory(limit), dict[int, tuple[int, Kept]]()

    for number, (size, gone) in enumerate(acts):
        for oldest in list(kept)[:gone]:
            del kept[oldest]
        held = sum(of_it for of_it, _ in kept.values())
        found = memory.keep([torch.zeros(size, dtype=torch.uint8)])
        assert (found is not None) == (held + size <= limit)
        if found:
            kept[number] = size, found
        del found
        assert memory.used == sum(of_it for of_it, _ in kept.values()) <= limit


def test_what_memory_has_no_room_for_goes_to_files_and_back_to_memory_once_there_is_some(parked: Path) -> None:
    parking = open_parking(SIZE, parked)

    first, second = parking.keep(some_content()), parking.keep(some_content())
    assert len(list(parked.iterdir())) == 1
    assert torch.equal(content_of(second)[2], some_content()[2])
    del first
    third = parking.keep(some_content())

    assert third is not None
    assert len(list(parked.iterdir())) == 1


def test_a_share_of_the_processs_memory_is_the_limit_where_none_is_given() -> None:
    parking = open_parking(None, None)

    assert parking.has_room(usable_memory() // 8)
    assert not parking.has_room(usable_memory() // 8 + 1)


def test_a_file_is_there_for_as_long_as_its_session(parked: Path) -> None:
    parking = InFiles(parked)
    first, second = parking.keep(some_content()), parking.keep(some_content())
    assert len(list(parked.iterdir())) == 2

    del first

    assert [torch.equal(a, b) for a, b in zip(content_of(second), some_content(), strict=True)] == [True] * 4
    assert len(list(parked.iterdir())) == 1


def test_what_a_killed_engine_left_is_removed_and_nothing_else(parked: Path) -> None:
    parked.mkdir()
    (parked / f"7{SUFFIX}").touch()
    (parked / "mine").touch()

    InFiles(parked)

    assert [path.name for path in parked.iterdir()] == ["mine"]


def test_a_directory_that_takes_no_file_keeps_nothing_and_leaves_nothing(
    parked: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parking = InFiles(parked)
    parked.rmdir()

    with caplog.at_level(logging.WARNING):
        kept = parking.keep(some_content())

    assert kept is None
    assert f"{parked} takes no file" in caplog.text
    assert not parked.exists()


class World:
    """An engine with room for one sequence, that parks it in files for another one of higher priority."""

    def __init__(self, directory: Path, parked: Path | None, park_bytes: int = 0) -> None:
        self.parked = parked
        runtime = replace(load_config(directory), max_batch=1)
        config, executor = open_executor(directory, runtime, threads=1, park_bytes=park_bytes, park_directory=parked)
        self.executor: TorchExecutor = executor
        ledger = open_ledger(config, runtime)
        self.engine = HybridEngine(executor, ledger, runtime, vocab_size=config.vocab_size, max_waiting=9)

    def files(self) -> list[Path]:
        return list(self.parked.iterdir()) if self.parked else []

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


def test_a_session_that_nobody_has_room_for_answers_as_if_it_had_never_lost_its_place(directory: Path) -> None:
    world = World(directory, None)
    low, high = world.park_one()
    world.engine.abort(high.id)

    answer = low.tokens()

    # then it went on after the end of its prompt, of which the prefix cache had a state
    assert world.engine.stats().preemptions == 1
    assert world.engine.stats().prefix_hit_tokens == len(PROMPT)
    assert answer == generate(world.engine, [PROMPT], LONG)[0]
    world.engine.close()


def test_a_session_without_room_is_not_even_copied(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(directory, None)
    reads: list[int] = []
    monkeypatch.setattr(Memory, "read", lambda self, slot, pages: reads.append(slot))

    low, high = world.park_one()

    world.engine.abort(low.id)
    world.engine.abort(high.id)
    world.engine.close()
    assert reads == []
