"""Write what a benchmark measured: one JSON file per benchmark and day, in the format of every other one."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

WRITTEN = (":(top,exclude)benchmarks/results", ":(top,exclude)docs/performance.md")
"""What benchmarks write, as git says it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure, beside its peer's where one was measured in the same run."""

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
    peer_spread: tuple[float, float] | None = None
    bandwidth_share: float | None = None
    """Bytes that have to be read, over those that memory gives in the same time."""
    gemm_share: float | None = None
    """Operations that have to be computed, over those of a large matrix product in the same time."""
    step_share: float | None = None
    """Part of a step's time."""
    note: str | None = None

    @property
    def key(self) -> tuple[str, str, str | None]:
        """What a later measurement of the same thing shares with it."""
        return self.case, self.metric, self.peer


def read_rows(path: Path) -> list[Row]:
    return [_row(raw) for raw in json.loads(path.read_text())["rows"]]


def write(
    benchmark: str,
    rows: Sequence[Row],
    packages: Sequence[str],
    others: Mapping[str, str] | None = None,
    gpu: str | None = None,
) -> Path:
    """Write today's file and return its path. Rows of the same commit that it has already stay, unless measured anew.

    `others` are versions of what is not installed here as a package.
    """
    now, commit = datetime.now(UTC), measured_commit()
    path = RESULTS / f"{benchmark}-{now:%Y%m%d}.json"
    content = {
        "benchmark": benchmark,
        "date": now.isoformat(timespec="seconds"),
        "commit": commit,
        "machine": _machine() | {"gpu": gpu},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
            **(others or {}),
        },
        "rows": [_raw(row) for row in merged(_earlier(path, commit), rows)],
    }
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def merged(earlier: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Every row once: those measured anew where they were, and what is new behind them."""
    anew = {row.key: row for row in rows}
    kept = [anew.pop(row.key, row) for row in earlier]
    return kept + list(anew.values())


def _earlier(path: Path, commit: str) -> list[Row]:
    """The rows of the file, if it is of this commit."""
    if not path.is_file() or json.loads(path.read_text())["commit"] != commit:
        return []
    return read_rows(path)


def _row(raw: Mapping[str, Any]) -> Row:
    spreads = {name: tuple(raw[name]) for name in ("spread", "peer_spread") if name in raw}
    return Row(**{**raw, **spreads})


def _raw(row: Row) -> dict[str, Any]:
    return {key: value for key, value in asdict(row).items() if value is not None}


def measured_commit() -> str:
    """The commit that was measured, with a + when files differ from it; what measuring writes does not count.

    Where there is no git, the variable COMMIT says which one it is.
    """
    if given := os.environ.get("COMMIT"):
        return given
    try:
        head = _git("rev-parse", "--short", "HEAD")
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{RESULTS.parent} is no git checkout: say which commit it is with COMMIT=…") from error
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *WRITTEN)
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=RESULTS.parent, check=True).stdout.strip()


def _machine() -> dict[str, object]:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpu = models[0].partition(":")[2].strip() if models else platform.processor()
    return {"cpu": cpu, "cores": os.cpu_count(), "memory_gib": round(memory, 1)}
