"""Bring one key to where its plan says: observe, plan, apply, report."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from nemotron_api import names
from nemotron_api.artifact import ArtifactSpec, NemotronArtifact
from nemotron_api.conditions import Condition
from nemotron_api.deployment import NemotronDeployment
from nemotron_operator import report, status
from nemotron_operator.apply import Leftover, carry_out
from nemotron_operator.artifact_plan import ObservedArtifact, hindered, job_view, plan_artifact
from nemotron_operator.checks import Finding
from nemotron_operator.cluster import Cluster, Refused
from nemotron_operator.events import event, turned
from nemotron_operator.objects import ND, SERVICE, Manifest, Ref
from nemotron_operator.observed import Observed, Smoke
from nemotron_operator.plan import Plan, plan
from nemotron_operator.probe import Prober
from nemotron_operator.resolve import resolve
from nemotron_operator.resources import artifact as artifact_resource
from nemotron_operator.settings import Settings
from nemotron_operator.store import Key, Store

log = logging.getLogger("nemotron.reconcile")

Requeue = Callable[[Key, float], None]
_LEFTOVER_SECONDS = 1.0


class Reconciler:
    """The thin shell around the planners: everything it knows is in the store, everything it does is in a plan."""

    def __init__(self, store: Store, cluster: Cluster, prober: Prober, settings: Settings, requeue: Requeue) -> None:
        self._store, self._cluster, self._prober = store, cluster, prober
        self._settings, self._requeue = settings, requeue

    async def reconcile(self, key: Key) -> None:
        body = self._store.body(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            # Children go with their owner; what is shared looks at who is left.
            self._store.forget(key)
            return
        try:
            await (self._deployment if key.kind == ND.kind else self._artifact)(key, body)
        except Leftover as leftover:
            log.info("%s: %s", key, leftover)
            self._requeue(key, _LEFTOVER_SECONDS)

    async def _deployment(self, key: Key, body: Manifest) -> None:
        try:
            deployment = NemotronDeployment.from_body(body)
        except ValidationError as error:
            finding = Finding("InvalidSpec", f"This operator cannot read the spec: {_first_problem(error)}")
            await self._report(key, body, Plan((), status.rejected(finding), {}))
            return
        observed = self._observe(key, body, deployment)
        decided = plan(deployment, observed, self._settings)
        try:
            taken, refused = await carry_out(decided.actions, self._store, self._cluster, self._learn), ""
        except Refused as refusal:
            taken, refused = (), str(refusal)
        if taken or refused:
            decided = plan(deployment, replace(observed, taken=taken, refused=refused), self._settings)
        if decided.ask_for_token:
            await self._ask_for_token(key, deployment)
            decided = plan(deployment, self._observe(key, body, deployment), self._settings)
        await self._report(key, body, decided)

    def _observe(self, key: Key, body: Manifest, deployment: NemotronDeployment) -> Observed:
        return self._store.observe(key, body, deployment.claim)

    async def _ask_for_token(self, key: Key, deployment: NemotronDeployment) -> None:
        service = self._store.child(Ref(SERVICE.kind, key.namespace, key.name))
        revision = self._observe(key, self._store.body(key) or {}, deployment)
        wanted = resolve(deployment, revision, self._settings).revision
        address = service.live["spec"].get("clusterIP", "") if service else ""
        known = self._store.smoke.get(key)
        first = known is None or known.revision != wanted
        why_not = await self._prober.ask_for_token(address, patient=first)
        self._store.smoke[key] = Smoke(wanted, deployment.generation, not why_not, why_not)

    async def _artifact(self, key: Key, body: Manifest) -> None:
        artifact = NemotronArtifact.from_body(body)
        observed = await self._observe_artifact(key, body, artifact)
        decided = plan_artifact(artifact, observed, self._settings, time.time())
        try:
            if taken := await carry_out(decided.actions, self._store, self._cluster, self._learn):
                decided = hindered(observed, "NameTaken", f"{taken[0]} exists and is not ours: delete that object.")
        except Refused as refusal:
            decided = hindered(observed, "Refused", str(refusal))
        if decided.conditions:
            await self._report(key, body, decided)

    async def _observe_artifact(self, key: Key, body: Manifest, artifact: NemotronArtifact) -> ObservedArtifact:
        jobs = tuple(job_view(child, _epoch) for child in self._store.jobs(artifact.uid) if not child.deleting)
        observed = ObservedArtifact(
            jobs=jobs,
            pods=self._store.pods(key),
            is_ours=body["metadata"].get("labels", {}).get(names.MANAGED_BY) == names.FIELD_MANAGER,
            status=body.get("status", {}),
        )
        if not observed.is_ready:
            asked = self._asked(artifact)
            observed = replace(observed, is_referenced=bool(asked), is_outdated=artifact.spec not in asked)
        latest = observed.latest
        pod = observed.pod_of(latest) if latest and latest.failed else None
        if not pod:
            return observed
        if pod.ref not in self._store.log_tails:
            self._store.log_tails[pod.ref] = await self._cluster.log_tail(pod.ref.namespace, pod.ref.name)
        return replace(observed, log_tail=self._store.log_tails[pod.ref])

    def _asked(self, artifact: NemotronArtifact) -> list[ArtifactSpec]:
        """The artifact as each deployment of the namespace that needs it would make it: computed, never stored."""
        return [spec for key in self._store.deployment_keys(artifact.namespace) for spec in self._needs(key, artifact)]

    def _needs(self, key: Key, artifact: NemotronArtifact) -> list[ArtifactSpec]:
        body = self._store.body(key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return []
        try:
            deployment = NemotronDeployment.from_body(body)
        except ValidationError:
            return []  # its own reconcile says so
        resolution = resolve(deployment, self._observe(key, body, deployment), self._settings)
        specs = artifact_resource.specs(deployment, resolution)
        return [spec for spec in specs if spec.fingerprint == artifact.spec.fingerprint]

    def _learn(self, body: Manifest) -> None:
        """Remember what a write made of an object, and plan again whatever that touches."""
        for key in self._store.put(body):
            self._requeue(key, 0.0)

    async def _report(self, key: Key, body: Manifest, decided: Plan) -> None:
        """Write the status if it is news; progress within a stage waits until the last write is ten seconds old."""
        if decided.again_in is not None:
            self._requeue(key, decided.again_in)
        old = body.get("status", {})
        meta = body["metadata"]
        new = report.new_status(old, decided.conditions, decided.status, meta["generation"], _now())
        patch = report.merge_patch(old, new)
        if not patch:
            return
        wait = self._store.written_at.get(key, -math.inf) + report.PROGRESS_SECONDS - time.monotonic()
        if not report.is_stage(old, new) and wait > 0:
            self._requeue(key, wait)
            return
        self._store.written_at[key] = time.monotonic()
        written = await self._cluster.patch_status(Ref(key.kind, key.namespace, key.name), meta["uid"], patch)
        if written is None:
            return
        self._learn(written)
        if status.was_ready(new):
            self._store.smoke.pop(key, None)
        await self._tell(written, old, decided.conditions)

    async def _tell(self, body: Manifest, old: Mapping[str, Any], conditions: tuple[Condition, ...]) -> None:
        for condition in turned(old.get("conditions", ()), conditions):
            log.info("%s %s: %s", body["metadata"]["name"], condition.type, condition.reason)
            moment = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            await self._cluster.post_event(event(body, condition, moment))


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _epoch(time_text: str) -> float:
    return datetime.fromisoformat(time_text.replace("Z", "+00:00")).timestamp()
