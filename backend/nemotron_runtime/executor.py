"""Compute a step."""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig, read_config
from nemotron_runtime import batch, model
from nemotron_runtime.config import CONFIG, DTYPES, WEIGHTS, RuntimeConfig
from nemotron_runtime.layout import layout
from nemotron_runtime.memory import Memory
from nemotron_runtime.request import Lease
from nemotron_runtime.scheduler import Step
from nemotron_runtime.tensorfile import read_tensors
from nemotron_runtime.threads import choose_threads, usable_cores


class Executor(Protocol):
    """What the engine asks of whatever holds the weights."""

    def enter(self) -> None:
        """Called once, first, on the thread that makes all other calls."""

    def admit(self, lease: Lease) -> None:
        """Make the lease's slot and pages an empty sequence."""

    def run(self, step: Step) -> Tensor:
        """Compute the step's slices. FP32 logits (slices that are last, vocabulary), in the order of the slices."""


class TorchExecutor:
    """Plain torch: one pass of the network per step, all its sequences together."""

    def __init__(self, network: model.Model, memory: Memory, *, threads: int) -> None:
        self._network = network
        self._threads = threads
        self.memory = memory

    def enter(self) -> None:
        # OpenMP keeps its count of threads per calling thread: set elsewhere, it would not hold here.
        torch.set_num_threads(self._threads)

    @torch.inference_mode()
    def admit(self, lease: Lease) -> None:
        self.memory.clear(lease)

    @torch.inference_mode()
    def run(self, step: Step) -> Tensor:
        return self._network(batch.build(step.slices, self.memory), self.memory)


def open_executor(
    directory: Path, runtime: RuntimeConfig, *, threads: int | None = None
) -> tuple[HybridConfig, TorchExecutor]:
    """The model's shape and its executor, from what `pack` wrote."""
    config = read_config(directory / CONFIG)
    tensors = read_tensors(directory / WEIGHTS, layout(config), DTYPES[runtime.dtype])
    if threads is None:
        threads = choose_threads(sum(tensor.nbytes for tensor in tensors.values()), usable_cores())
    with torch.inference_mode():
        network = model.build(config, tensors)
    return config, TorchExecutor(network, Memory(config, runtime), threads=threads)
