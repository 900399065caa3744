"""Let the launcher and the model, two processes of one pod, tell each other how they are."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

Record = dict[str, Any]

RUN_DIRECTORY: Final = "NEMOTRON_RUN_DIRECTORY"
"""An environment variable, since the server starts the model's process and hands on nothing else of the launcher's."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the launcher tells the model; the defaults hold where there is no launcher."""

    max_waiting: int = 256
    client_limit: int | None = None
    trace_url: str | None = None
    """Of the OTLP/HTTP receiver that gets a span for each request."""
    trace_ratio: float = 1.0
    """The share that is traced of those requests that bring no trace of their own."""
    park_bytes: int | None = None
    park_directory: str | None = None


@dataclass(frozen=True, slots=True)
class Pulse:
    """The model's sign of life, written twice a second."""

    pid: int
    written_at: float
    """Seconds of the monotonic clock, which all processes of a machine share."""
    stall_seconds: float
    """Since the engine's loop or the sender last turned."""
    refusing: bool
    active: int
    """Requests not yet answered completely; counted after `refusing` was read, so (True, 0) is final."""
    failed: bool = False
    """The engine refuses everything since its step loop failed."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """A few small files; the last writer of each is known, and every write is atomic."""

    path: Path

    @classmethod
    def from_environment(cls) -> "RunDirectory | None":
        """The launcher's directory, or nothing where Triton was started without a launcher."""
        value = os.environ.get(RUN_DIRECTORY)
        return cls(Path(value)) if value else None

    def clear(self) -> None:
        """Forget a server that is gone."""
        for name in ("pulse.json", "failure.json", "refuse"):
            (self.path / name).unlink(missing_ok=True)

    def refuse(self) -> None:
        """From now on the model refuses new requests."""
        (self.path / "refuse").touch()

    @property
    def is_refusing(self) -> bool:
        return (self.path / "refuse").exists()

    def write_settings(self, settings: Settings) -> None:
        self._write("settings.json", asdict(settings))

    def read_settings(self) -> Settings:
        return Settings(**(self._read("settings.json") or {}))

    def write_pulse(self, pulse: Pulse) -> None:
        self._write("pulse.json", asdict(pulse))

    def read_pulse(self) -> Pulse | None:
        """The latest pulse, or nothing while the model still loads."""
        record = self._read("pulse.json")
        return None if record is None else Pulse(**record)

    def write_failure(self, reason: str, message: str) -> None:
        """Why the model could not be loaded."""
        self._write("failure.json", {"reason": reason, "message": message})

    def read_failure(self) -> Record | None:
        return self._read("failure.json")

    def _write(self, name: str, record: Record) -> None:
        temporary = self.path / f".{name}"
        temporary.write_text(json.dumps(record))
        temporary.rename(self.path / name)

    def _read(self, name: str) -> Record | None:
        try:
            record: Record = json.loads((self.path / name).read_text())
            return record
        except FileNotFoundError:
            return None
