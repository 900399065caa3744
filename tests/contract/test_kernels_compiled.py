"""Every kernel compiles for every GPU, at the sizes of real models, and keeps its numbers in registers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.compiled import CAPABILITIES
from benchmarks.launches import SIZES, makers

pytestmark = pytest.mark.contract

SHARED_BYTES = {80: 166_912, 89: 101_376, 90: 232_448, 100: 232_448, 120: 101_376}
"""Of a program at most, by compute capability: CUDA C++ Programming Guide, table of technical specifications."""


@pytest.mark.parametrize(("model", "only"), [("Super", ""), ("Nano 4B", "FP32 state")])
def test_no_register_spills_and_shared_memory_is_enough(model: str, only: str, tmp_path: Path) -> None:
    """All kernels of a model with experts, and one's with heads of 80; `benchmarks.compiled` has all models."""
    # In a process of its own: in this one kernels may be Python.
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": paths}

    command = [sys.executable, "-W", "error", "-m", "benchmarks.compiled", model, only]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stderr
    found = [json.loads(line) for line in told.stdout.splitlines()]
    assert [each["capability"] for each in found] == list(CAPABILITIES)
    for each in found:
        kernels = each["kernels"]
        assert len(kernels) >= sum(only in case for case in makers(SIZES[model])) > 0
        assert {name: took for name, took in kernels.items() if took["spilled"]} == {}
        assert max(took["shared"] for took in kernels.values()) <= SHARED_BYTES[each["capability"]]
