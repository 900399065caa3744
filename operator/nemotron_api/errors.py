"""Name everything that can go wrong, once.

Each class carries the CamelCase `reason` that becomes the condition's reason, the event's reason and the first word of
an exit message. The text of an error tells the reader what to do. Three tables translate these classes at the edges:
the operator's handlers, the build command's exit codes, the backend's Triton codes.
"""

from typing import ClassVar


class NemotronError(Exception):
    """Root of the tree: something the project can name."""

    reason: ClassVar[str] = "InternalError"


class InvalidSpec(NemotronError):
    """The user's object asks for something that cannot be."""

    reason = "InvalidSpec"


class InvalidModel(NemotronError):
    """The checkpoint is not a model of this family, or its config.json contradicts itself."""

    reason = "InvalidModel"


class SourceError(NemotronError):
    """Weights cannot be fetched from where the spec points."""

    reason = "SourceUnreachable"


class UnsupportedSource(SourceError):
    """The URI's scheme is not one we can fetch."""

    reason = "UnsupportedSource"


class SourceNotFound(SourceError):
    """Nothing is there under this URI."""

    reason = "SourceNotFound"


class SourceRefused(SourceError):
    """The source does not give its weights to whoever asks."""

    reason = "SourceRefused"


class ChecksumMismatch(NemotronError):
    """A file's content is not what its digest says."""

    reason = "ChecksumMismatch"


class WeightsInvalid(NemotronError):
    """A weights file is truncated, malformed, or holds other tensors than the config asks for."""

    reason = "WeightsInvalid"


class VolumeFull(NemotronError):
    """The store has too little space for the artifact."""

    reason = "VolumeFull"


class VolumeNotWritable(NemotronError):
    """The build may not write to the store."""

    reason = "VolumeNotWritable"


class Interrupted(NemotronError):
    """The build was asked to stop before it was done."""

    reason = "Interrupted"


class SmokeFailed(NemotronError):
    """The finished engine could not generate."""

    reason = "SmokeFailed"


class EngineMismatch(NemotronError):
    """The sealed engine does not fit this machine, these libraries, or the digest it was promised with."""

    reason = "EngineMismatch"


class DoesNotFit(NemotronError):
    """Memory does not suffice for what was asked."""

    reason = "DoesNotFit"


class KernelUnavailable(NemotronError):
    """A compiled kernel was asked for and is not installed."""

    reason = "KernelUnavailable"


class RequestError(NemotronError):
    """A generation request that cannot be served."""

    reason = "RequestFailed"


class InvalidRequest(RequestError):
    """The request itself is wrong; sending it again will not help."""

    reason = "InvalidRequest"


class Overloaded(RequestError):
    """The queue is full; another replica or a later try may serve it."""

    reason = "Overloaded"


class ShuttingDown(RequestError):
    """This replica drains; another one serves the request."""

    reason = "ShuttingDown"


class DeadlineExceeded(RequestError):
    """The request's own deadline passed before it was served."""

    reason = "DeadlineExceeded"


class Cancelled(RequestError):
    """The client went away before its answer was complete."""

    reason = "Cancelled"
