"""Find what makes a deployment impossible: a list of small questions, the first finding wins."""

from collections.abc import Callable
from dataclasses import dataclass

from nemotron_api.deployment import NemotronDeployment
from nemotron_api.gpus import GPUS
from nemotron_operator.observed import Observed


@dataclass(frozen=True, slots=True)
class Finding:
    """Why a deployment is not accepted, with a sentence that says what to change."""

    reason: str
    message: str


Check = Callable[[NemotronDeployment, Observed], Finding | None]


def names_are_free(deployment: NemotronDeployment, observed: Observed) -> Finding | None:
    if not observed.taken:
        return None
    taken = ", ".join(str(ref) for ref in observed.taken)
    return Finding(
        "NameTaken", f"{taken} exists and is not this deployment's: rename the deployment, or delete that object."
    )


def objects_are_accepted(deployment: NemotronDeployment, observed: Observed) -> Finding | None:
    return Finding("Refused", observed.refused) if observed.refused else None


def skus_are_known(deployment: NemotronDeployment, observed: Observed) -> Finding | None:
    asked = deployment.placement.gpu.skus if deployment.placement.gpu else ()
    strange = [sku for sku in asked if sku not in GPUS]
    if not strange:
        return None
    return Finding("UnknownSku", f"placement.gpu.skus: {', '.join(strange)} is unknown; known are {', '.join(GPUS)}.")


def tensor_parallelism_needs_gpus(deployment: NemotronDeployment, observed: Observed) -> Finding | None:
    parallelism = deployment.spec.engine and deployment.spec.engine.parallelism
    if not parallelism or parallelism.tensor == 1 or deployment.placement.gpu:
        return None
    return Finding(
        "InvalidSpec",
        f"engine.parallelism.tensor is {parallelism.tensor}, but placement.gpu is absent: name the GPUs, or remove it.",
    )


def store_is_shareable(deployment: NemotronDeployment, observed: Observed) -> Finding | None:
    modes = observed.claim_modes
    if modes is None or deployment.most_replicas < 2 or "ReadWriteMany" in modes:
        return None
    return Finding(
        "VolumeNotShareable",
        f"claim {deployment.claim} is {', '.join(modes)}, which one node mounts at a time, and up to "
        f"{deployment.most_replicas} replicas are asked for: use a ReadWriteMany claim, or one replica.",
    )


CHECKS: tuple[Check, ...] = (
    names_are_free,
    skus_are_known,
    tensor_parallelism_needs_gpus,
    store_is_shareable,
    objects_are_accepted,
)


def first_finding(deployment: NemotronDeployment, observed: Observed) -> Finding | None:
    return next((finding for check in CHECKS if (finding := check(deployment, observed))), None)
