"""Tell users of transitions: one Event per condition that turned, none while nothing changes."""

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from nemotron_api import names
from nemotron_api.conditions import Condition
from nemotron_operator.objects import Manifest

_NOTE_BYTES = 1000


def turned(old: Iterable[Mapping[str, Any]], new: Iterable[Condition]) -> tuple[Condition, ...]:
    """Conditions worth an Event: those that became true, or not true for another reason than before."""
    before = {condition["type"]: (condition["status"], condition["reason"]) for condition in old}
    return tuple(c for c in new if before.get(c.type) != (c.status, c.reason) and c.type != names.READY) + tuple(
        c for c in new if c.type == names.READY and before.get(c.type, ("False", ""))[0] != c.status
    )


def event(body: Mapping[str, Any], condition: Condition, now: str) -> Manifest:
    """An `events.k8s.io/v1` Event that regards the object.

    Args:
        now: RFC 3339 time with microseconds.
    """
    meta = body["metadata"]
    reference = {key: meta[key] for key in ("namespace", "name", "uid", "resourceVersion") if key in meta}
    failing = condition.status == "False" and condition.reason not in _EXPECTED
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": meta["namespace"], "name": f"{meta['name']}.{uuid.uuid4().hex[:16]}"},
        "regarding": {"apiVersion": body["apiVersion"], "kind": body["kind"], **reference},
        "type": "Warning" if failing else "Normal",
        "reason": condition.reason,
        "action": condition.type,
        "note": condition.message.encode()[:_NOTE_BYTES].decode(errors="ignore"),
        "eventTime": now,
        "reportingController": names.FIELD_MANAGER,
        "reportingInstance": names.FIELD_MANAGER,
    }


_EXPECTED = frozenset(
    {
        "Queued",
        "Fetching",
        "Building",
        "WaitingForWeights",
        "WaitingForEngine",
        "PodsPending",
        "LoadingModel",
        "Blocked",
        "Complete",
        "NewRevision",
        "Scaling",
        "ScaledToZero",
        "MetricsMissing",
        "NotRoutable",
    }
)
"""Reasons of False that belong to a normal start; the others are warnings."""
