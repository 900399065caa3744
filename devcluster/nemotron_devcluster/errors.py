"""Say why the local cluster cannot do what was asked."""

from nemotron_api.errors import NemotronError


class ClusterError(NemotronError):
    """The machine, a tool or another cluster stands in the way; the text says what to do about it."""

    reason = "LocalClusterFailed"
