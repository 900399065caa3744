"""Translate how a build ended into an exit code and the Job's termination message."""

import bisect

from pydantic import ValidationError

from nemotron_api.build import TERMINATION_MESSAGE_BYTES, Failure, Success
from nemotron_api.errors import (
    ChecksumMismatch,
    DoesNotFit,
    EngineMismatch,
    Interrupted,
    InvalidModel,
    InvalidSpec,
    KernelUnavailable,
    NemotronError,
    SmokeFailed,
    SourceError,
    SourceNotFound,
    SourceRefused,
    UnsupportedSource,
    VolumeFull,
    VolumeNotWritable,
    WeightsInvalid,
)

EXIT_CODES: dict[type[NemotronError], int] = {
    NemotronError: 1,
    InvalidSpec: 2,
    InvalidModel: 10,
    UnsupportedSource: 11,
    SourceNotFound: 12,
    SourceError: 13,
    ChecksumMismatch: 14,
    WeightsInvalid: 15,
    SourceRefused: 16,
    VolumeFull: 20,
    VolumeNotWritable: 21,
    DoesNotFit: 22,
    EngineMismatch: 23,
    KernelUnavailable: 24,
    SmokeFailed: 25,
    Interrupted: 143,
}
"""By class, the nearest one counts. 1x: the source is wrong; 2x: the place or the engine is."""


def named(error: BaseException) -> NemotronError:
    """The error as one of ours: what has no name is an InternalError that tells type and text."""
    if isinstance(error, NemotronError):
        return error
    if isinstance(error, ValidationError):
        return InvalidSpec(_first_problem(error))
    if isinstance(error, MemoryError):
        return DoesNotFit(f"the build ran out of memory ({error}): give the Job more")
    return NemotronError(f"{type(error).__name__}: {error}")


def exit_code(error: NemotronError) -> int:
    return next(EXIT_CODES[cls] for cls in type(error).__mro__ if cls in EXIT_CODES)


def failure_message(error: NemotronError) -> bytes:
    """Failure as JSON; a text that does not fit is cut between two characters and ends in an ellipsis."""
    # File names can carry bytes that are no text; JSON can't.
    text = str(error).encode(errors="replace").decode()
    if len(whole := _failure(error, text)) <= TERMINATION_MESSAGE_BYTES:
        return whole
    fitting = bisect.bisect_right(
        range(TERMINATION_MESSAGE_BYTES), TERMINATION_MESSAGE_BYTES, key=lambda n: len(_failure(error, text[:n] + "…"))
    )
    return _failure(error, text[: fitting - 1] + "…")


def success_message(success: Success) -> bytes:
    """Success as JSON; a record that does not fit stays behind in the manifest."""
    whole = success.to_json().encode()
    if len(whole) <= TERMINATION_MESSAGE_BYTES:
        return whole
    return success.model_copy(update={"record": {}}).to_json().encode()


def _first_problem(error: ValidationError) -> str:
    """`Engine.limits.maxBatch: Input should be greater than or equal to 1`."""
    problem = error.errors(include_url=False)[0]
    where = ".".join([*map(str, problem["loc"])]) or error.title
    return f"the request is wrong at {where}: {problem['msg']}"


def _failure(error: NemotronError, message: str) -> bytes:
    return Failure(reason=error.reason, message=message).to_json().encode()
