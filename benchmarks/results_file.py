"""Write what a benchmark measured: one JSON file per benchmark and day, in the format of every other one."""

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure beside its peer's, measured in the same run."""

    case: str
    metric: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    ratio: float | None = None
    """How many times better than the peer."""
    target: float | None = None
    met: bool | None = None
    spread: tuple[float, float] | None = None
    """Smallest and largest of the repeats whose median `value` is."""


def repeated(measure: Callable[[], float], repeats: int = 5) -> tuple[float, tuple[float, float]]:
    """The median of some runs, and their spread; one run before them warms up."""
    measure()
    values = [measure() for _ in range(repeats)]
    return statistics.median(values), (min(values), max(values))


def write(benchmark: str, rows: Sequence[Row], packages: Sequence[str]) -> Path:
    """Print the rows as a table and write the file; returns its path."""
    for row in rows:
        beside = f"  {row.peer} {row.peer_value:.3g}, {row.ratio:.2f}×" if row.peer_value and row.ratio else ""
        print(f"{row.case:<40} {row.metric:<14} {row.value:>9.3g} {row.unit:<10}{beside}")
    now = datetime.now(UTC)
    content = {
        "benchmark": benchmark,
        "date": now.isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": _machine(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "rows": [{key: value for key, value in asdict(row).items() if value is not None} for row in rows],
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{benchmark}-{now:%Y%m%d}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, cwd=RESULTS.parent).stdout.strip()


def _machine() -> dict[str, object]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpu = models[0].partition(":")[2].strip() if models else platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(memory, 1), "gpu": None}
