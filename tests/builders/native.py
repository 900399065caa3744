"""Open engines whose windows the library computes, with any of its sets of instructions and any number of threads."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nemotron_api.hybrid_config import HybridConfig, read_config
from nemotron_kernels.native import best_isa
from nemotron_kernels.native.interface import ISAS
from nemotron_runtime import model
from nemotron_runtime.config import RuntimeConfig
from nemotron_runtime.executor import TorchExecutor
from nemotron_runtime.memory import Memory
from nemotron_runtime.native import NativeSteps
from nemotron_runtime.parking import InMemory
from tests.builders.engines import mapped
from tests.builders.player import Opener

HERE = [pytest.param(isa, id=name.replace(" ", "-")) for isa, name in ISAS.items() if isa <= best_isa()]
"""What this processor has of what the library was compiled for."""


def native_opener(isa: int | None = None, threads: int = 1) -> Opener:
    """Stands for `open_executor`."""

    def opened(directory: Path, runtime: RuntimeConfig, **_: Any) -> tuple[HybridConfig, TorchExecutor]:
        config = read_config(directory)
        with torch.inference_mode():
            network = model.build(config, mapped(directory))
        memory = Memory(config, runtime)
        steps = NativeSteps(config, network, memory, threads=threads, isa=isa)
        return config, TorchExecutor(config, network, None, memory, threads=1, parking=InMemory(1 << 30), native=steps)

    return opened
