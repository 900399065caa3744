"""Describe where the weights of a model are."""

from typing import Annotated

from pydantic import Field, StringConstraints

from nemotron_api.cel import cel
from nemotron_api.record import Record

ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253)]


class LocalReference(Record):
    name: ObjectName = Field(description="Name of an object in the same namespace.")


class Source(Record):
    """Where the weights are."""

    uri: str = Field(
        min_length=1,
        max_length=2048,
        description="hf://<owner>/<repository>@<commit>: one commit, 40 hex digits, of a repository of a hub. "
        "pvc://<claim>/<path>: a checkpoint in Hugging Face layout on a claim of this namespace.",
        json_schema_extra=cel(
            "self.matches('^pvc://[a-z0-9][-a-z0-9.]*/.+') || self.matches('^hf://[^/@]+/[^/@]+@[0-9a-f]{40}$')",
            "write hf://<owner>/<repository>@<commit> with all 40 hex digits of the commit, since a branch may change, "
            "or pvc://<claim>/<path>",
        ),
    )
    digest: str | None = Field(
        None,
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="sha256 of the file list as sha256sum prints it, sorted by name (`nemotron-build digest DIR`). "
        "Absent: whatever is there is taken, hashed, and reported in the status.",
    )
    secret_ref: LocalReference | None = Field(
        None, description="Secret whose keys the fetching Job gets as variables; HF_TOKEN is the hub's token."
    )
    endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        max_length=512,
        description="Address of a mirror that speaks as the hub does. Absent: https://huggingface.co.",
    )
