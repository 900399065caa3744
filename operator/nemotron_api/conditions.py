"""Build and compare conditions as `metav1.Condition` has them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is so, is not so, or is not known, and why."""

    type: str
    status: Status
    reason: str
    """CamelCase, from the catalogue in `nemotron_api.reasons`."""
    message: str

    @property
    def is_true(self) -> bool:
        return self.status == "True"


def true(type: str, reason: str, message: str) -> Condition:  # noqa: A002 - the field's name in Kubernetes
    return Condition(type, "True", reason, message)


def false(type: str, reason: str, message: str) -> Condition:  # noqa: A002
    return Condition(type, "False", reason, message)


def merge(
    old: Iterable[Mapping[str, Any]], new: Iterable[Condition], generation: int, now: str
) -> list[dict[str, Any]]:
    """The list to write: `lastTransitionTime` stays unless the status changed.

    Args:
        old: conditions as they stand in the object's status.
        new: what is true now, in the order to show.
        generation: `metadata.generation` the new conditions speak about.
        now: RFC 3339 time of this observation.
    """
    before = {condition["type"]: condition for condition in old}
    return [
        {
            "type": condition.type,
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": generation,
            "lastTransitionTime": _transition_time(before.get(condition.type), condition, now),
        }
        for condition in new
    ]


def _transition_time(old: Mapping[str, Any] | None, new: Condition, now: str) -> str:
    return str(old["lastTransitionTime"]) if old and old["status"] == new.status else now
