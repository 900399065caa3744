"""Decide whether a status is worth a write now, and what the write must hold."""

from collections.abc import Mapping
from typing import Any

from nemotron_api import names
from nemotron_api.conditions import Condition, merge

PROGRESS_SECONDS = 10.0
"""Progress within a stage is written at most this often."""

_STAGES = frozenset({names.ACCEPTED, names.WEIGHTS_READY, names.ENGINE_READY, names.AVAILABLE, names.READY})


def new_status(
    old: Mapping[str, Any], conditions: tuple[Condition, ...], fields: Mapping[str, Any], generation: int, now: str
) -> dict[str, Any]:
    """The whole status as it should be."""
    merged = merge(old.get("conditions", ()), conditions, generation, now)
    return {**fields, "observedGeneration": generation, "conditions": merged}


def is_stage(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a stage was reached, left, or answered for another generation: such news are not held back."""
    if old.get("observedGeneration") != new.get("observedGeneration"):
        return True
    return _stages(old) != _stages(new)


def _stages(status: Mapping[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status.get("conditions", ()) if c["type"] in _STAGES}


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that turns `old` into `new`; empty when they are equal."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if changed := merge_patch(before, value):
                patch[key] = changed
        elif value != before:
            patch[key] = value
    return patch
