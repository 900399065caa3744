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


class Executor(Protocol):
    """What the engine asks of whatever holds the weights; it is called from one thread only."""

    def admit(self, lease: Lease) -> None:
        """Make the lease's slot and pages an empty sequence."""

    def run(self, step: Step) -> Tensor:
        """Compute the step's slices. FP32 logits (slices that are last, vocabulary), in the order of the slices."""


class TorchExecutor:
    """Plain torch: one pass of the network per step, all its sequences together."""

    def __init__(self, network: model.Model, memory: Memory) -> None:
        self._network = network
        self.memory = memory

    @torch.inference_mode()
    def admit(self, lease: Lease) -> None:
        self.memory.clear(lease)

    @torch.inference_mode()
    def run(self, step: Step) -> Tensor:
        return self._network(batch.build(step.slices, self.memory), self.memory)


def open_executor(directory: Path, runtime: RuntimeConfig) -> tuple[HybridConfig, TorchExecutor]:
    """The model's shape and its executor, from what `pack` wrote."""
    config = read_config(directory / CONFIG)
    tensors = read_tensors(directory / WEIGHTS, layout(config), DTYPES[runtime.dtype])
    with torch.inference_mode():
        network = model.build(config, tensors)
    return config, TorchExecutor(network, Memory(config, runtime))
