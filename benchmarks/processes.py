"""Run each engine in a process of its own, with the cores a case gives it."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.job import Job, Measured
from benchmarks.models import CACHE
from benchmarks.rates import Rates

ROOT = Path(__file__).parents[1]

LLAMA_PYTHON = CACHE / "llama/.venv/bin/python"

LIMIT_SECONDS = 3600.0

NO_LIMIT = resource.RLIM_INFINITY

SAID_LINES = 2


class EngineFailed(Exception):
    """An engine did not finish its job."""


@dataclass(frozen=True, slots=True)
class Engine:
    """How an engine's process is started."""

    name: str
    module: str
    python: Path = Path(sys.executable)
    missing: str = ""
    """What to do when the interpreter is not there."""

    @property
    def is_there(self) -> bool:
        return self.python.is_file()


OURS = Engine("ours", "benchmarks.engines.ours")
TRANSFORMERS = Engine("transformers", "benchmarks.engines.huggingface")
LLAMA = Engine("llama.cpp", "benchmarks.engines.llama", LLAMA_PYTHON, "llama.cpp is not built: run `make bench-llama`")


def run_engine(
    engine: Engine, job: Job, *, limit_seconds: float = LIMIT_SECONDS, limit_bytes: int = NO_LIMIT
) -> Measured:
    """Raises EngineFailed with what the engine said last, and when it wants more time or memory than it may have."""
    command = [str(engine.python), "-m", engine.module]
    return Measured.load(_run(command, job.dump(), job.threads, limit_seconds, limit_bytes))


def run_rates(dtype: str, threads: int, read_bytes: int) -> Rates:
    asked = json.dumps({"dtype": dtype, "threads": threads, "read_bytes": read_bytes})
    return Rates(**json.loads(_run([sys.executable, "-m", "benchmarks.rates"], asked, threads)))


def _run(
    command: list[str],
    given: str,
    threads: int,
    limit_seconds: float = LIMIT_SECONDS,
    limit_bytes: int = NO_LIMIT,
) -> str:
    """The last line that the command prints."""
    try:
        done = subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=_environment(threads),
            timeout=limit_seconds,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes)),
        )
    except subprocess.TimeoutExpired as expired:
        raise EngineFailed(f"{command[-1]} did not finish within {limit_seconds:.0f} s") from expired
    if done.returncode:
        raise EngineFailed(f"{command[-1]} ended with {done.returncode}: {last_words(done.stderr)}")
    return done.stdout.strip().splitlines()[-1]


def last_words(stderr: str) -> str:
    """The last lines that are no part of a traceback, which is indented."""
    return " ".join([line for line in stderr.splitlines() if line[:1].strip()][-SAID_LINES:])


def _environment(threads: int) -> Mapping[str, str]:
    """llama.cpp's environment has none of ours installed: what it needs of us is found by path."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "operator")))
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads), "TRANSFORMERS_VERBOSITY": "error"}
