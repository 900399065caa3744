"""Compute a step."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig, read_config
from nemotron_api.layout import layout
from nemotron_runtime import batch, model
from nemotron_runtime.arithmetic import EXACT, FAST
from nemotron_runtime.config import CONFIG, DTYPES, WEIGHTS, RuntimeConfig
from nemotron_runtime.memory import Memory
from nemotron_runtime.moves import ClearPages, ClearSlot, CopyPage, CopySlot, Move, Park, Resume
from nemotron_runtime.process import choose_threads, keep_freed_memory, usable_cores
from nemotron_runtime.scheduler import Slice
from nemotron_runtime.tensorfile import read_tensors


class Executor(Protocol):
    """What the engine asks of whatever holds the weights."""

    def enter(self) -> None:
        """Called once, first, on the thread that makes all other calls."""

    def move(self, moves: Sequence[Move]) -> None:
        """Do what the books say was done to slots and pages, in order."""

    def run(self, slices: Sequence[Slice]) -> Tensor:
        """Compute slices, ordered by their number of tokens.

        Returns FP32 logits (rows, vocabulary): in the order of the slices, for each that is its request's last one
        row for its last confirmed token and one for each draft.
        """


class TorchExecutor:
    """Plain torch: one pass of the network per step, all its sequences together."""

    def __init__(self, config: HybridConfig, network: model.Model, memory: Memory, *, threads: int) -> None:
        self._config = config
        self._network = network
        self._threads = threads
        self.memory = memory

    def enter(self) -> None:
        # OpenMP keeps its count of threads per calling thread: set elsewhere, it would not hold here.
        torch.set_num_threads(self._threads)

    @torch.inference_mode()
    def move(self, moves: Sequence[Move]) -> None:
        for each in moves:
            self._move(each)

    @torch.inference_mode()
    def run(self, slices: Sequence[Slice]) -> Tensor:
        return self._network(batch.build(slices, self._config, self.memory.page_tokens), self.memory)

    def _move(self, move: Move) -> None:
        memory = self.memory
        match move:
            case ClearSlot(slot):
                memory.clear_slot(slot)
            case ClearPages(pages):
                memory.clear_pages(pages)
            case CopySlot(source, target):
                memory.copy_slot(source, target)
            case CopyPage(source, target):
                memory.copy_page(source, target)
            case Park(request, slot, pages) if request.parked:
                request.parked.content = memory.read(slot, pages)
            case Resume(request) if request.parked:
                memory.write(request.held.slot, request.held.pages, request.parked.content)
                request.parked = None


def open_executor(
    directory: Path, runtime: RuntimeConfig, *, threads: int | None = None, exact: bool = False
) -> tuple[HybridConfig, TorchExecutor]:
    """The model's shape and its executor, from what `pack` wrote."""
    config = read_config(directory / CONFIG)
    tensors = read_tensors(directory / WEIGHTS, layout(config), DTYPES[runtime.dtype])
    if threads is None:
        threads = choose_threads(sum(tensor.nbytes for tensor in tensors.values()), usable_cores())
    keep_freed_memory()
    with torch.inference_mode():
        network = model.build(config, tensors, EXACT if exact else FAST)
    return config, TorchExecutor(config, network, Memory(config, runtime), threads=threads)
