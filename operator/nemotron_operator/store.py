"""Remember what the watches and our own writes showed, trimmed, so that planning reads no API server."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nemotron_api import names
from nemotron_operator.objects import CLAIM, CONTROLLER_REVISION, DEPLOYMENT, JOB, NA, ND, POD, Manifest, Ref
from nemotron_operator.observed import ArtifactView, Child, Load, Observed, PodView, Revision, Smoke, Workload


@dataclass(frozen=True, slots=True)
class Key:
    """Names one unit of work: a deployment or an artifact."""

    kind: str
    namespace: str
    name: str


class Store:
    """What is known of the cluster. Newer knowledge wins, whether an event or an answer to our own write brought it."""

    def __init__(self) -> None:
        self._bodies: dict[Ref, Manifest] = {}
        self._children: dict[Ref, Child] = {}
        self._of_owner: dict[str, set[Ref]] = defaultdict(set)
        self._pods: dict[Ref, PodView] = {}
        self._pods_of: dict[tuple[str, str], set[Ref]] = defaultdict(set)
        self._claims: dict[Ref, tuple[str, ...]] = {}
        self._versions: dict[Ref, int] = {}
        self.smoke: dict[Key, Smoke] = {}
        self.load: dict[Key, Load] = {}
        self.wanted: dict[Key, tuple[tuple[float, int], ...]] = {}
        self.log_tails: dict[Ref, str] = {}
        self.written_at: dict[Key, float] = {}

    def put(self, body: Mapping[str, Any]) -> frozenset[Key]:
        """Remember an object; the keys whose plan may change, none when this is not news."""
        ref = Ref.of(body)
        version = int(body["metadata"]["resourceVersion"])
        if version <= self._versions.get(ref, 0):
            return frozenset()
        self._remove(ref)
        self._versions[ref] = version
        match ref.kind:
            case ND.kind | NA.kind:
                self._bodies[ref] = _trimmed(body)
            case POD.kind:
                pod = PodView.of(body)
                self._pods[ref] = pod
                self._pods_of[ref.namespace, pod.owner_label].add(ref)
            case CLAIM.kind:
                self._claims[ref] = tuple(body["spec"].get("accessModes", ()))
            case _:
                child = Child.of(body)
                self._children[ref] = child
                self._of_owner[child.owner].add(ref)
        return self._touched(body)

    def drop(self, body: Mapping[str, Any]) -> frozenset[Key]:
        """Forget an object that is gone."""
        ref = Ref.of(body)
        # An object made anew under this name has a larger version than the one that is gone.
        if int(body["metadata"]["resourceVersion"]) < self._versions.get(ref, 0):
            return frozenset()
        self._remove(ref)
        self.log_tails.pop(ref, None)
        return self._touched(body)

    def versions(self, kind: str) -> dict[Ref, int]:
        """What is known of a kind, to be compared with a list taken after this."""
        return {ref: version for ref, version in self._versions.items() if ref.kind == kind}

    def drop_unlisted(self, before: Mapping[Ref, int], listed: Iterable[Ref]) -> bool:
        """Forget what was known before a list was taken and is not on it; whether there was any such thing."""
        gone = [ref for ref in before.keys() - set(listed) if self._versions.get(ref) == before[ref]]
        for ref in gone:
            self._remove(ref)
        return bool(gone)

    def _remove(self, ref: Ref) -> None:
        self._versions.pop(ref, None)
        self._bodies.pop(ref, None)
        self._claims.pop(ref, None)
        if child := self._children.pop(ref, None):
            self._of_owner[child.owner].discard(ref)
        if pod := self._pods.pop(ref, None):
            self._pods_of[ref.namespace, pod.owner_label].discard(ref)

    def forget(self, key: Key) -> None:
        """Drop what was learnt about a key that is gone."""
        for memory in (self.smoke, self.load, self.wanted, self.written_at):
            memory.pop(key, None)

    def _touched(self, body: Mapping[str, Any]) -> frozenset[Key]:
        meta = body["metadata"]
        kind, namespace, labels = body["kind"], meta["namespace"], meta.get("labels", {})
        if kind == ND.kind:
            # Which artifacts are referenced may have changed.
            return frozenset({Key(kind, namespace, meta["name"]), *self.artifact_keys(namespace)})
        if kind == NA.kind:
            return frozenset({Key(kind, namespace, meta["name"]), *self.deployment_keys(namespace)})
        if kind == CLAIM.kind:
            return frozenset(self.deployment_keys(namespace))
        # Before labels, which anybody may change; only pods have other owners.
        owner: Mapping[str, str] = next((o for o in meta.get("ownerReferences", ()) if o.get("controller")), {})
        if owner.get("kind") in (ND.kind, NA.kind):
            return frozenset({Key(owner["kind"], namespace, owner["name"])})
        if artifact := labels.get(names.ARTIFACT_LABEL):
            return frozenset({Key(NA.kind, namespace, artifact)})
        if deployment := labels.get(names.NAME_LABEL):
            return frozenset({Key(ND.kind, namespace, deployment)})
        return frozenset()

    def deployment_keys(self, namespace: str = "") -> Iterable[Key]:
        return [Key(*_parts(r)) for r in self._bodies if r.kind == ND.kind and namespace in ("", r.namespace)]

    def artifact_keys(self, namespace: str = "") -> Iterable[Key]:
        return [Key(*_parts(r)) for r in self._bodies if r.kind == NA.kind and namespace in ("", r.namespace)]

    def body(self, key: Key) -> Manifest | None:
        return self._bodies.get(Ref(key.kind, key.namespace, key.name))

    def child(self, ref: Ref) -> Child | None:
        return self._children.get(ref)

    def knows(self, ref: Ref) -> bool:
        return ref in self._versions

    def pods(self, key: Key) -> tuple[PodView, ...]:
        return tuple(self._pods[ref] for ref in self._pods_of.get((key.namespace, key.name), ()))

    def jobs(self, uid: str) -> list[Child]:
        return [child for ref in self._of_owner.get(uid, ()) if (child := self._children[ref]).ref.kind == JOB.kind]

    def observe(self, key: Key, body: Manifest, claim: str) -> Observed:
        """Everything planning may know about one deployment."""
        owned = {ref: self._children[ref] for ref in self._of_owner.get(body["metadata"]["uid"], ())}
        by_kind: dict[str, list[Child]] = defaultdict(list)
        for child in owned.values():
            by_kind[child.ref.kind].append(child)
        return Observed(
            artifacts={r.name: ArtifactView.of(self._bodies[r]) for r in map(_ref, self.artifact_keys(key.namespace))},
            workloads=tuple(Workload.of(child) for child in by_kind[DEPLOYMENT.kind]),
            revisions=tuple(Revision.of(child) for child in by_kind[CONTROLLER_REVISION.kind]),
            pods=self.pods(key),
            children=owned,
            claim_modes=self._claims.get(Ref(CLAIM.kind, key.namespace, claim)),
            smoke=self.smoke.get(key),
            load=self.load.get(key),
            wanted=self.wanted.get(key, ()),
            status=body.get("status", {}),
        )


def _parts(ref: Ref) -> tuple[str, str, str]:
    return ref.kind, ref.namespace, ref.name


def _ref(key: Key) -> Ref:
    return Ref(key.kind, key.namespace, key.name)


def _trimmed(body: Mapping[str, Any]) -> Manifest:
    meta = {k: v for k, v in body["metadata"].items() if k != "managedFields"}
    return {**body, "metadata": meta}
