"""Give every value that crosses a process border one shape: frozen, camelCase JSON, unknown keys refused."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Record(BaseModel):
    """A frozen value with camelCase JSON names."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_json(self) -> str:
        return self.model_dump_json(by_alias=True, exclude_none=True)


def canonical(value: Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_of(value: Mapping[str, Any]) -> str:
    """sha256 (64 hex digits) over the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def fingerprint(inputs: Record) -> str:
    """sha256 (64 hex digits) over every input that can change an artifact."""
    return sha256_of(inputs.to_dict())


def short(fingerprint: str) -> str:
    """The 12 hex digits that name an artifact's object."""
    return fingerprint.removeprefix("sha256:")[:12]
