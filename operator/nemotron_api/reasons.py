"""The catalogue of reasons: every condition's reason with the sentence that says when it is used."""

from dataclasses import dataclass

from nemotron_api.names import (
    ACCEPTED,
    AVAILABLE,
    CAPACITY_AVAILABLE,
    ENGINE_READY,
    PROGRESSING,
    READY,
    SCALING_ACTIVE,
    WEIGHTS_READY,
)


@dataclass(frozen=True, slots=True)
class Reason:
    type: str
    status: str
    name: str
    when: str


_TABLE: dict[tuple[str, str], dict[str, str]] = {
    (ACCEPTED, "True"): {"Resolved": "The spec is valid and everything it left open was solved."},
    (ACCEPTED, "False"): {
        "InvalidSpec": "The spec passes the schema and still cannot be: the message says which field.",
        "UnsupportedSource": "The weights' URI has a scheme that is not known.",
        "UnknownSku": "placement.gpu.skus names a GPU that is not in the table.",
        "NameTaken": "An object this deployment needs exists and belongs to somebody else; it is left untouched.",
        "Refused": "The API server does not accept an object the deployment needs; its words are quoted.",
        "VolumeNotShareable": "The store's claim can be mounted by one node only, and more than one may need it.",
    },
    (WEIGHTS_READY, "True"): {
        "Verified": "Every file was fetched and its sha256 is what was promised.",
    },
    (ENGINE_READY, "True"): {
        "Built": "The engine is sealed and generated tokens in its smoke test.",
    },
    (CAPACITY_AVAILABLE, "True"): {"Fits": "Every pod of the target revision has a node."},
    (CAPACITY_AVAILABLE, "False"): {
        "InsufficientGpu": "The scheduler finds no node with enough free GPUs.",
        "Unschedulable": "The scheduler finds no node for another reason; its message is quoted.",
    },
    (AVAILABLE, "True"): {"MinimumReplicasRoutable": "At least disruption.minAvailable replicas are routable."},
    (AVAILABLE, "False"): {
        "WaitingForEngine": "There is no engine to serve yet.",
        "PodsPending": "Pods are created but not started.",
        "LoadingModel": "Pods run and load the model.",
        "PodsCrashing": "Containers end with an error; the message quotes it.",
        "ImageUnavailable": "The runtime image cannot be pulled.",
        "SecretMissing": "A secret the pod needs does not exist.",
        "ScaledToZero": "replicas is 0.",
    },
    (PROGRESSING, "True"): {
        "NewRevision": "A revision is being made ready or takes over.",
        "Scaling": "The number of replicas is changing.",
    },
    (PROGRESSING, "False"): {
        "Complete": "The target revision serves alone, with the number of replicas it should have.",
        "DeadlineExceeded": "The revision did not become available within rollout.progressDeadline.",
        "Blocked": "A condition above must become true first.",
    },
    (SCALING_ACTIVE, "True"): {
        "Steady": "The load fits the replicas there are.",
        "ScaledUp": "Load asked for more replicas.",
        "ScaledDown": "Load allowed fewer replicas for the whole stabilization time.",
        "AtMax": "Load asks for more replicas than scaling.max.",
    },
    (SCALING_ACTIVE, "False"): {
        "MetricsMissing": "No replica's metrics could be read: the number of replicas is held.",
    },
    (READY, "True"): {"Serving": "A token was generated through the Service by the current generation."},
    (READY, "False"): {"NotRoutable": "Replicas are ready, but no token came back through the Service."},
}

# Reasons of the error tree and of a Job's life can appear under either artifact's condition.
_BUILD_REASONS = {
    "WaitingForWeights": "The engine is built from weights that are not ready.",
    "NameTaken": "A Job of the name exists and belongs to somebody else; it is left untouched.",
    "Refused": "The API server does not accept the Job; its words are quoted.",
    "Queued": "The Job is created; its pod has not started.",
    "Fetching": "The Job copies and verifies the weights.",
    "Building": "The Job builds the engine.",
    "UnsupportedSource": "The weights' URI has a scheme that is not known.",
    "SourceNotFound": "Nothing is there under the weights' URI.",
    "SourceRefused": "The source wants a token, or another one, or its licence accepted.",
    "SourceUnreachable": "The weights cannot be fetched.",
    "ChecksumMismatch": "A file's sha256 differs from what was promised; the message names it.",
    "WeightsInvalid": "A weights file is truncated or malformed; the message names it.",
    "InvalidModel": "config.json is not of this family, or contradicts itself.",
    "InvalidSpec": "The request cannot be built as it is.",
    "DoesNotFit": "Memory does not suffice.",
    "VolumeFull": "The store has too little free space.",
    "VolumeNotWritable": "The Job's user may not write to the store; the message says what to set.",
    "Interrupted": "The Job's pod was stopped before it was done.",
    "SmokeFailed": "The finished engine could not generate.",
    "KernelUnavailable": "The image lacks a kernel that the engine's smoke test needs.",
    "EngineMismatch": "The store holds something else under the artifact's name.",
    "SecretMissing": "A secret the Job needs does not exist.",
    "ImageUnavailable": "The Job's image cannot be pulled.",
    "OutOfMemory": "The Job was killed for memory.",
    "Unschedulable": "No node can run the Job's pod; the scheduler's message is quoted.",
    "InternalError": "The Job failed in a way that has no name; the log's tail is in the status.",
}


def catalogue() -> tuple[Reason, ...]:
    """Every reason that may appear in a NemotronDeployment's conditions, in the conditions' order."""
    named = [
        Reason(type_, status, name, when)
        for (type_, status), reasons in _TABLE.items()
        for name, when in reasons.items()
    ]
    built = [
        Reason(type_, "False", name, when)
        for type_ in (WEIGHTS_READY, ENGINE_READY)
        for name, when in _BUILD_REASONS.items()
    ]
    return (*named, *built)


def is_known(type: str, status: str, reason: str) -> bool:  # noqa: A002 - the field's name in Kubernetes
    """Whether the catalogue has this reason; Ready=False repeats the reason of what it waits for."""
    if type == READY and status == "False":
        return any(r.name == reason for r in catalogue())
    return any((r.type, r.status, r.name) == (type, status, reason) for r in catalogue())
