"""Choose how many threads compute a step."""

import math
import os
from pathlib import Path

BYTES_PER_THREAD = 32 << 20
"""A thread earns its synchronisation, dozens of times per step, only if it has weights to read in between."""

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def choose_threads(weight_bytes: int, cores: int) -> int:
    """At least one, at most one per core."""
    return max(1, min(cores, weight_bytes // BYTES_PER_THREAD))


def usable_cores() -> int:
    """Cores this process may use: those it may be scheduled on, within its container's quota."""
    quota = read_quota(CPU_MAX.read_text()) if CPU_MAX.is_file() else math.inf
    return math.ceil(min(len(os.sched_getaffinity(0)), quota))


def read_quota(cpu_max: str) -> float:
    """Cores that a cgroup's cpu.max allows: microseconds per period, or the word max."""
    quota, period = cpu_max.split()
    return math.inf if quota == "max" else int(quota) / int(period)
