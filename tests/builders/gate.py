"""Hold an engine at its next step, so that a test decides what happens meanwhile."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from nemotron_api.errors import Overloaded, ShuttingDown
from nemotron_api.hybrid_config import read_config
from nemotron_runtime import HybridEngine, SamplingParams, pack
from nemotron_runtime.config import load_config
from nemotron_runtime.executor import ChooseDrafts, open_executor
from nemotron_runtime.moves import Move
from nemotron_runtime.opening import open_ledger
from nemotron_runtime.scheduler import Slice
from tests.builders.checkpoints import a_checkpoint
from tests.builders.streams import PATIENCE_SECONDS

BATCH, LIMIT = 3, 600


def a_packed_engine(root: Path) -> Path:
    """The directory of a tiny random engine: BATCH slots, sequences of at most LIMIT tokens."""
    pack(a_checkpoint(root / "checkpoint"), root / "engine", dtype="FP32", max_batch=BATCH, max_sequence_tokens=LIMIT)
    return root / "engine"


class Gate:
    """The real executor behind a gate: a test decides when it computes, and what happens instead."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        _, self.executor = open_executor(directory, load_config(directory), threads=1)
        self.open = threading.Event()
        self.entered = threading.Event()
        self.instead: Callable[[Tensor], Tensor] = lambda logits: logits

    def enter(self) -> None:
        self.executor.enter()

    @property
    def has_module(self) -> bool:
        return self.executor.has_module

    def draft(self, slices: Sequence[Slice], lengths: Sequence[int], choose: ChooseDrafts) -> list[tuple[int, ...]]:
        return self.executor.draft(slices, lengths, choose)

    def move(self, moves: Sequence[Move]) -> None:
        self.executor.move(moves)

    def run(self, slices: Sequence[Slice], *, drafting: bool = False) -> Tensor:
        self.entered.set()
        assert self.open.wait(PATIENCE_SECONDS)
        return self.instead(self.executor.run(slices, drafting=drafting))

    def close_after(self, logits: Tensor) -> Tensor:
        """One step, then no more until the test opens the gate again."""
        self.open.clear()
        return logits

    def an_engine(self, max_waiting: int) -> HybridEngine:
        """An engine whose steps go through this gate."""
        config, runtime = read_config(self.directory), load_config(self.directory)
        ledger = open_ledger(config, runtime)
        return HybridEngine(self, ledger, runtime, vocab_size=config.vocab_size, max_waiting=max_waiting)


def until(holds: Callable[[], bool]) -> None:
    """Wait for something another thread is about to do."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def is_empty(engine: HybridEngine) -> bool:
    stats = engine.stats()
    return (stats.waiting, stats.running, stats.state_slots_used, stats.kv_pages_used) == (0, 0, 0, 0)


def is_refused(engine: HybridEngine) -> bool:
    """Whether the engine is closed, by trying."""
    try:
        engine.abort(engine.submit([5], SamplingParams(), lambda event: None))
    except Overloaded:
        return False
    except ShuttingDown as error:
        return "send the request to another replica" in str(error)
    return False
