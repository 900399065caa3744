"""Threads follow the weights they would read, within the cores the container has."""

import math
import os
from pathlib import Path

import pytest

from nemotron_runtime.process import choose_threads, read_limit, read_quota, usable_cores, usable_memory

pytestmark = pytest.mark.unit

MIB = 1 << 20


@pytest.mark.parametrize(
    ("weight_bytes", "cores", "threads"),
    [
        pytest.param(4 * MIB, 8, 1, id="a-tiny-model-gets-one"),
        pytest.param(100 * MIB, 8, 3, id="one-per-32-mib"),
        pytest.param(8000 * MIB, 8, 8, id="never-more-than-cores"),
        pytest.param(8000 * MIB, 1, 1, id="one-core"),
    ],
)
def test_threads_follow_the_weights(weight_bytes: int, cores: int, threads: int) -> None:
    assert choose_threads(weight_bytes, cores) == threads


@pytest.mark.parametrize(("cpu_max", "cores"), [("max 100000\n", math.inf), ("150000 100000\n", 1.5)])
def test_a_containers_quota_is_read(cpu_max: str, cores: float) -> None:
    assert read_quota(cpu_max) == cores


def test_a_process_has_at_least_one_core_and_no_more_than_it_may_run_on() -> None:
    assert 1 <= usable_cores() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("memory_max", "bytes_"), [("max\n", math.inf), ("2147483648\n", 2 << 30)])
def test_a_containers_memory_limit_is_read(memory_max: str, bytes_: float) -> None:
    assert read_limit(memory_max) == bytes_


def test_a_process_may_use_no_more_memory_than_the_machine_has() -> None:
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))

    assert 0 < usable_memory() <= int(total.split()[1]) * 1024
