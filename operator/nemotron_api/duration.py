"""Read and write durations the way Kubernetes users write them: `90s`, `10m`, `1h30m`."""

import re

PATTERN = r"^([0-9]{1,3}h)?([0-9]{1,5}m)?([0-9]{1,7}s)?$"
"""Few enough digits that the sum is an int32, which is what Kubernetes counts seconds in."""
_UNITS = {"h": 3600, "m": 60, "s": 1}


def seconds(text: str) -> int:
    """`1h30m` → 5400.

    Raises:
        ValueError: the text is not a duration.
    """
    if not text or not re.fullmatch(PATTERN, text):
        raise ValueError(f"{text!r} is not a duration: write it as 90s, 10m or 1h30m")
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([hms])", text))


def spell(total_seconds: float) -> str:
    """5400 → `1h30m`; whole seconds, `0s` for nothing."""
    rest, parts = int(total_seconds), ""
    for unit, size in _UNITS.items():
        count, rest = divmod(rest, size)
        parts += f"{count}{unit}" if count else ""
    return parts or "0s"
