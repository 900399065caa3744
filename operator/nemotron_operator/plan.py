"""Decide what a deployment's cluster should become and what to say about it; touches nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nemotron_api import duration
from nemotron_api.conditions import Condition
from nemotron_api.deployment import NemotronDeployment
from nemotron_autoscaler import Decision, Policy, Sample, decide
from nemotron_operator import status
from nemotron_operator.checks import first_finding
from nemotron_operator.objects import CONFIG_MAP, CONTROLLER_REVISION, DEPLOYMENT, PDB, Manifest, Ref
from nemotron_operator.observed import ArtifactView, Load, Observed, Revision, Workload
from nemotron_operator.resolve import Resolution, resolve
from nemotron_operator.resources import (
    artifact,
    claim,
    config_map,
    controller_revision,
    disruption_budget,
    service,
    service_account,
)
from nemotron_operator.resources import deployment as deployment_resource
from nemotron_operator.settings import Settings

_ASK_AGAIN_SECONDS = 10.0
"""What stands in the way of a deployment is not ours: no event tells when it goes."""
MISSED_SCRAPES = 5
"""After so many, the load of the time between is unknown."""


@dataclass(frozen=True, slots=True)
class Apply:
    """Make the object as the manifest says."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Create:
    """Make the object if it is absent; what is there stays as it is."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Delete:
    ref: Ref


Action = Apply | Create | Delete


@dataclass(frozen=True, slots=True)
class Plan:
    actions: tuple[Action, ...]
    conditions: tuple[Condition, ...]
    status: Mapping[str, Any]
    """The rest of the status."""
    ask_for_token: bool = False
    """Everything is in place but the proof: a token through the Service."""
    again_in: float | None = None
    """Seconds after which to plan again even if nothing happens; None to wait for an event."""


@dataclass(frozen=True, slots=True)
class Situation:
    """One look at a deployment: what it needs, what serves it, what it should have."""

    deployment: NemotronDeployment
    observed: Observed
    resolution: Resolution
    weights: ArtifactView | None
    engine: ArtifactView | None
    revision: Revision | None
    """The target revision, rendered; None until its engine is sealed."""
    scaling: Decision
    """How many replicas the target revision should have, and why."""

    @property
    def target(self) -> Workload | None:
        return self.observed.workload(self.resolution.revision) if self.resolution.revision else None

    @property
    def others(self) -> tuple[Workload, ...]:
        """Workloads of other revisions, which serve until the target does."""
        return tuple(w for w in self.observed.workloads if w.revision != self.resolution.revision)

    @property
    def routable(self) -> int:
        return sum(workload.available for workload in self.observed.workloads)

    @property
    def target_is_complete(self) -> bool:
        return bool(self.revision) and (self.target.available if self.target else 0) >= self.scaling.replicas

    def is_superseded(self, workload: Workload) -> bool:
        """Whether a revision was replaced before it ever served: it holds the nodes that the target needs."""
        return workload.available == 0 and workload.revision != self.observed.status.get("servingRevision")

    @property
    def is_proven(self) -> bool:
        """Whether a token came back through the Service from the target revision, now or before it was written down."""
        if status.was_ready(self.observed.status):
            return self.observed.status.get("servingRevision") == self.resolution.revision
        smoke = self.observed.smoke
        return bool(smoke and smoke.ok and smoke.revision == self.resolution.revision)

    @property
    def needs_proof(self) -> bool:
        alone = not self.others and self.target is not None and self.target.available > 0
        return alone and bool(self.revision) and not self.is_proven


def plan(deployment: NemotronDeployment, observed: Observed, settings: Settings) -> Plan:
    """What to do and to say now, from the whole observed state; the same again when nothing changed."""
    if finding := first_finding(deployment, observed):
        conditions = status.rejected(finding)
        return Plan((), conditions, status.of_rejected(deployment, observed), again_in=_ASK_AGAIN_SECONDS)
    seen = look(deployment, observed, settings)
    return Plan(
        actions=tuple(_actions(seen)),
        conditions=status.conditions(seen),
        status=status.fields(seen),
        ask_for_token=seen.needs_proof,
        again_in=2.0 if seen.needs_proof else None,
    )


def look(deployment: NemotronDeployment, observed: Observed, settings: Settings) -> Situation:
    """Put together what the decisions below are made from."""
    resolution = resolve(deployment, observed, settings)
    engine = observed.artifacts.get(resolution.engine_name) if resolution.engine else None
    seen = Situation(
        deployment=deployment,
        observed=observed,
        resolution=resolution,
        weights=observed.artifacts.get(resolution.weights_name),
        engine=engine,
        revision=_target_revision(deployment, observed, resolution, engine, settings),
        scaling=Decision(deployment.spec.replicas, "Steady"),
    )
    return replace(seen, scaling=_replicas(seen, settings))


def _target_revision(
    deployment: NemotronDeployment,
    observed: Observed,
    resolution: Resolution,
    engine: ArtifactView | None,
    settings: Settings,
) -> Revision | None:
    if not resolution.revision or engine is None:
        return None
    number = 1 + max((revision.number for revision in observed.revisions), default=0)
    kept = observed.revision(resolution.revision)
    return kept or controller_revision.render(deployment, resolution, engine, number, settings)


def policy_of(deployment: NemotronDeployment, settings: Settings) -> Policy | None:
    """The autoscaler's policy, or None where the user sets the number of replicas."""
    scaling = deployment.spec.scaling
    if scaling is None:
        return None
    window = duration.seconds(scaling.stabilization or settings.default_stabilization)
    silence = MISSED_SCRAPES * settings.metrics_interval_seconds
    return Policy(scaling.min, scaling.max, window, settings.target_occupancy, silence)


def _replicas(seen: Situation, settings: Settings) -> Decision:
    policy = policy_of(seen.deployment, settings)
    if policy is None:
        return Decision(seen.deployment.spec.replicas, "Steady")
    told = seen.target.replicas if seen.target else sum(workload.replicas for workload in seen.others)
    if seen.others or seen.target is None:
        # A revision that takes over must carry the load of those it replaces: hold until it serves alone.
        return Decision(min(max(told, policy.min), policy.max), "Steady")
    if seen.observed.load is None:
        # Nobody was asked yet, as after a start of the operator: what was said before still holds.
        said = seen.observed.status.get("scaling", {}).get("reason", "Steady")
        return Decision(min(max(told, policy.min), policy.max), said)
    return decide(told, _sample(seen.observed.load), seen.observed.wanted, policy)


def _sample(load: Load) -> Sample:
    return Sample(load.replicas, load.answered, load.waiting, load.slots_used, load.slots_total)


def _actions(seen: Situation) -> Iterator[Action]:
    yield from _shared(seen)
    yield from _static(seen)
    if seen.revision:
        yield Create(controller_revision.build(seen.deployment, seen.revision))
        yield Apply(config_map.build(seen.deployment, seen.revision))
        yield Apply(deployment_resource.build(seen.deployment, seen.revision, seen.scaling.replicas))
    yield from _replaced(seen)


def _shared(seen: Situation) -> Iterator[Action]:
    """Objects that outlive the deployment and may be another's too: made when absent, never changed."""
    if store := claim.build(seen.deployment):
        yield Create(store)
    yield Create(artifact.build_weights(seen.deployment, seen.resolution))
    if seen.resolution.engine and seen.weights and seen.weights.ready:
        yield Create(artifact.build_engine(seen.deployment, seen.resolution))


def _static(seen: Situation) -> Iterator[Action]:
    yield Apply(service_account.build(seen.deployment))
    yield Apply(service.build(seen.deployment))
    yield Apply(service.build_headless(seen.deployment))
    budget = disruption_budget.build(seen.deployment)
    if budget:
        yield Apply(budget)
    elif (ref := Ref(PDB.kind, seen.deployment.namespace, seen.deployment.name)) in seen.observed.children:
        yield Delete(ref)


def _replaced(seen: Situation) -> Iterator[Action]:
    """Revisions that are not wanted any more go once the target carries their load; deleting drains their pods."""
    if not seen.revision:
        return
    for workload in seen.others:
        if not workload.deleting and (seen.target_is_complete or seen.is_superseded(workload)):
            yield Delete(Ref(DEPLOYMENT.kind, seen.deployment.namespace, workload.name))
    in_use = {seen.revision.name, *(w.revision for w in seen.others), *(pod.revision for pod in seen.observed.pods)}
    for ref, child in seen.observed.children.items():
        kept_kinds = (CONTROLLER_REVISION.kind, CONFIG_MAP.kind)
        if ref.kind in kept_kinds and child.revision not in in_use and not child.deleting:
            yield Delete(ref)
