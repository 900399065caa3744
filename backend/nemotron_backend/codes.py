"""Translate the project's errors into the codes of Triton: the backend's one table."""

import logging
from typing import Final

from nemotron_api.errors import (
    Cancelled,
    DeadlineExceeded,
    EngineMismatch,
    InvalidRequest,
    NemotronError,
    Overloaded,
    RequestError,
    ShuttingDown,
)
from nemotron_runtime.incident import record

log = logging.getLogger(__name__)

# Names are attributes of pb_utils.TritonError; each becomes a gRPC status and an HTTP code inside the server.
CODES: Final[dict[type[NemotronError], str]] = {
    InvalidRequest: "INVALID_ARG",
    Overloaded: "UNAVAILABLE",
    ShuttingDown: "UNAVAILABLE",
    # Triton has no deadline code, and UNAVAILABLE would ask a client to retry what it no longer waits for.
    DeadlineExceeded: "CANCELLED",
    Cancelled: "CANCELLED",
    EngineMismatch: "UNAVAILABLE",
    NemotronError: "INTERNAL",
}


def code_of(error: NemotronError) -> str:
    """The Triton code of the nearest class in the table."""
    return next(CODES[cls] for cls in type(error).__mro__ if cls in CODES)


def text_of(error: NemotronError) -> str:
    """What the client reads: the reason first, since a gRPC stream carries no code, only this text."""
    return f"{error.reason}: {error}"


def named(error: Exception) -> NemotronError:
    """`error` itself when it is one of ours; else one that keeps internals from the client, and in the log."""
    if isinstance(error, NemotronError):
        return error
    return RequestError(f"internal error, the server's log says more ({record(log, 'a request failed', error)})")
