"""Make deployments, artifacts and what the operator observes of them, as tests want them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from nemotron_api import names
from nemotron_api.artifact import ArtifactSpec, NemotronArtifact, name_of
from nemotron_api.build import EngineRequest, Success, WeightsRequest
from nemotron_api.deployment import NemotronDeployment
from nemotron_api.record import sha256_of
from nemotron_operator.artifact_plan import JobView
from nemotron_operator.objects import Manifest, Ref
from nemotron_operator.observed import ArtifactView, Observed, PodView, Revision, Smoke, Workload
from nemotron_operator.plan import Apply, Create, Plan, look
from nemotron_operator.resolve import resolve
from nemotron_operator.settings import Settings

SETTINGS = Settings(runtime_image="registry.test/backend:1")
NAMESPACE = "models"
SOURCE = "pvc://models/tiny"


def digest_of(text: str) -> str:
    """A digest that differs with the text."""
    return f"sha256:{sha256_of({'of': text})}"


def a_body(name: str = "nano", *, generation: int = 1, uid: str = "", **spec: Any) -> Manifest:
    """A NemotronDeployment as the API server holds it; `spec` adds to the model."""
    model = {"name": "tiny", "source": {"uri": SOURCE}}
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.DEPLOYMENT_KIND,
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": uid or f"uid-of-{name}",
            "generation": generation,
            "resourceVersion": "1",
        },
        "spec": {"model": model, "replicas": 1, **spec},
    }


def a_deployment(name: str = "nano", *, image: str = "", generation: int = 1, **spec: Any) -> NemotronDeployment:
    """`a_deployment(replicas=2, image="…")`: other words are fields of the spec."""
    if image:
        spec["runtime"] = {**spec.get("runtime", {}), "image": image}
    return NemotronDeployment.from_body(a_body(name, generation=generation, **spec))


def a_view(
    name: str, *, reason: str = "", bytes_: int = 1_000_000, failure: Mapping[str, Any] | None = None
) -> ArtifactView:
    """An artifact as deployments see it: ready, unless `reason` says why not."""
    return ArtifactView(
        name=name,
        ready=not reason,
        reason=reason or ("Verified" if name.startswith("weights") else "Built"),
        message=f"about {name}",
        manifest_sha256="" if reason else sha256_of({"manifest of": name}),
        digest="" if reason else digest_of(name),
        bytes=0 if reason else bytes_,
        last_failure=failure,
        job="" if reason else f"{name}-1",
    )


def with_artifacts(
    deployment: NemotronDeployment, *, weights: str = "", engine: str = "", observed: Observed | None = None
) -> Observed:
    """The deployment's artifacts, each ready unless the word says its reason ("absent": there is none)."""
    seen = observed or Observed()
    if weights != "absent":
        seen = _knowing(seen, resolve(deployment, seen, SETTINGS).weights_name, weights)
    if engine != "absent":
        seen = _knowing(seen, resolve(deployment, seen, SETTINGS).engine_name, engine)
    return seen


def _knowing(observed: Observed, name: str, reason: str) -> Observed:
    if not name or name in observed.artifacts:
        return observed
    return replace(observed, artifacts={**observed.artifacts, name: a_view(name, reason=reason)})


def with_revision(
    deployment: NemotronDeployment, observed: Observed, *, replicas: int = 1, available: int = 0, stalled: bool = False
) -> Observed:
    """The deployment's revision of now, rendered and running."""
    revision = look(deployment, observed, SETTINGS).revision
    assert revision, "the engine must be ready"
    name = f"{deployment.name}-{revision.name}"
    workload = Workload(name, revision.name, replicas, available, "2026-01-01T00:00:00Z", stalled, False)
    others = tuple(w for w in observed.workloads if w.name != name)
    known = observed.revision(revision.name)
    return replace(
        observed,
        workloads=(*others, workload),
        revisions=observed.revisions if known else (*observed.revisions, revision),
    )


def serving(deployment: NemotronDeployment, *, replicas: int | None = None, available: int | None = None) -> Observed:
    """The deployment Ready with its revision of now, as the status tells."""
    told = deployment.spec.replicas if replicas is None else replicas
    seen = with_revision(
        deployment, with_artifacts(deployment), replicas=told, available=told if available is None else available
    )
    name = look(deployment, seen, SETTINGS).resolution.revision
    return replace(seen, status=a_status(name, generation=deployment.generation))


def a_status(revision: str, *, ready: str = "True", generation: int = 1) -> dict[str, Any]:
    condition = {
        "type": names.READY,
        "status": ready,
        "reason": "Serving" if ready == "True" else "NewRevision",
        "message": "…",
        "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    return {"servingRevision": revision, "conditions": [condition], "observedGeneration": generation}


def a_smoke(revision: str, *, ok: bool = True, message: str = "") -> Smoke:
    return Smoke(revision, 1, ok, message)


def a_pod(name: str = "pod", *, revision: str = "", job: str = "", phase: str = "Running", **changed: Any) -> PodView:
    pod = PodView(
        ref=Ref("Pod", NAMESPACE, name),
        owner_label="nano",
        revision=revision,
        job=job,
        phase=phase,
        ready=phase == "Running",
        deleting=False,
        ip="127.0.0.1",
        unschedulable="",
        waiting=("", ""),
        ended=None,
        restarts=0,
    )
    return replace(pod, **changed)


def weights_request(uri: str = SOURCE) -> WeightsRequest:
    return WeightsRequest(uri=uri, store="nemotron-store")


def an_artifact(request: WeightsRequest | EngineRequest | None = None, **spec: Any) -> NemotronArtifact:
    """A NemotronArtifact for a request; `spec` adds to or replaces its fields."""
    request = request or weights_request()
    fields: dict[str, Any] = {
        "kind": request.kind,
        "fingerprint": request.fingerprint,
        "claim_name": "nemotron-store",
        request.kind.lower(): request,
        "image": "registry.test/backend:1",
        **spec,
    }
    name = name_of(request.kind, request.fingerprint)
    return NemotronArtifact(
        name=name, namespace=NAMESPACE, uid="uid-of-artifact", generation=1, spec=ArtifactSpec(**fields)
    )


def a_job(artifact: NemotronArtifact, attempt: int = 1, *, ended: str = "", at: float = 0.0, why: str = "") -> JobView:
    """`ended` is Complete, Failed, or empty while it runs."""
    return JobView(f"{artifact.name}-{attempt}", attempt, ended == "Complete", ended == "Failed", at, why)


def a_success(artifact: NemotronArtifact, **changed: Any) -> Success:
    made = Success(
        fingerprint=artifact.spec.fingerprint,
        manifest_sha256=sha256_of({"manifest of": artifact.name}),
        digest=digest_of(artifact.name),
        bytes=4_000_000,
        seconds=3.0,
    )
    return made.model_copy(update=changed)


def titles(plan: Plan) -> list[str]:
    """The plan's actions as words: `apply Service nano`."""
    return [_title(action) for action in plan.actions]


def _title(action: Any) -> str:
    ref = Ref.of(action.manifest) if isinstance(action, Apply | Create) else action.ref
    return f"{type(action).__name__.lower()} {ref.kind} {ref.name}"


def manifest_of(plan: Plan, kind: str, name: str = "") -> Manifest:
    """The one manifest of this kind that the plan writes."""
    written = [action.manifest for action in plan.actions if isinstance(action, Apply | Create)]
    (only,) = [m for m in written if m["kind"] == kind and name in ("", m["metadata"]["name"])]
    return only


def condition(plan: Plan, type_: str) -> str:
    """`False/Queued`, or nothing when the plan says nothing of this type."""
    return next((f"{c.status}/{c.reason}" for c in plan.conditions if c.type == type_), "")


def message(plan: Plan, type_: str) -> str:
    return next(c.message for c in plan.conditions if c.type == type_)


def target(deployment: NemotronDeployment, observed: Observed) -> Revision:
    """The revision the spec asks for; the engine must be ready."""
    revision = look(deployment, observed, SETTINGS).revision
    assert revision
    return revision
