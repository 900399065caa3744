"""Read who wrote what from the API server's audit log."""

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def entries(path: Path, since: float) -> Iterator[dict[str, Any]]:
    """Writes that were answered since then (seconds since the epoch), as audit.k8s.io/v1 Events, oldest first."""
    with path.open() as lines:
        for line in lines:
            # The last line may be half written: it is an entry of the next look.
            if not line.endswith("\n"):
                return
            entry: dict[str, Any] = json.loads(line)
            if datetime.datetime.fromisoformat(entry["stageTimestamp"]).timestamp() >= since:
                yield entry
