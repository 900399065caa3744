"""Be an API server and its controllers in memory, one small move at a time, for the real reconciler to work against."""

import copy
import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from nemotron_api import names
from nemotron_api.record import sha256_of
from nemotron_operator.objects import Manifest, Ref
from tests.builders.operator import NAMESPACE, digest_of

Move = Callable[[], object]


class ToyCluster:
    """Objects, their versions, and what watchers have yet to hear. `async` as the real one is, but never waiting."""

    def __init__(self) -> None:
        self.objects: dict[Ref, Manifest] = {}
        self.outbox: dict[str, deque[tuple[str, Manifest]]] = defaultdict(deque)
        self.writes: list[str] = []
        self.told: list[Manifest] = []
        self.before_delete: Callable[[Ref], None] = lambda ref: None
        self.trouble = 0
        """How many of the operator's next requests fail."""
        self.fail_after: int | None = None
        """How many of its requests succeed before one fails; None: none does."""
        self._version = 0

    # What the operator may ask for.

    async def get(self, ref: Ref) -> Manifest | None:
        self._request("get", ref)
        return copy.deepcopy(self.objects.get(ref))

    async def apply(self, manifest: Manifest) -> Manifest:
        ref = Ref.of(manifest)
        self._request("apply", ref)
        return self.put(merged(self.objects.get(ref, {}), manifest))

    async def create(self, manifest: Manifest) -> Manifest | None:
        ref = Ref.of(manifest)
        self._request("create", ref)
        return None if ref in self.objects else self.put(copy.deepcopy(manifest))

    async def delete(self, ref: Ref) -> None:
        self._request("delete", ref)
        self.before_delete(ref)
        self.remove(ref)

    async def patch_status(self, ref: Ref, uid: str, patch: Mapping[str, Any]) -> Manifest:
        self._request("status", ref)
        if ref not in self.objects or self.objects[ref]["metadata"]["uid"] != uid:
            raise ConnectionError("404 or 409")
        return self.put(merged(self.objects[ref], {"status": patch}))

    async def log_tail(self, namespace: str, pod: str) -> str:
        return f"the end of {namespace}/{pod}"

    async def post_event(self, event: Manifest) -> None:
        self.told.append(event)

    def _request(self, verb: str, ref: Ref) -> None:
        if self.fail_after is not None:
            self.fail_after -= 1
            if self.fail_after < 0:
                self.fail_after = None
                raise ConnectionError("the API server went away")
        if self.trouble:
            self.trouble -= 1
            raise ConnectionError("the API server is busy")
        if verb != "get":
            self.writes.append(f"{verb} {ref}")

    # What happens whoever asks.

    def put(self, body: Manifest) -> Manifest:
        """Store the object as the API server would: a version for every change, a generation for the spec's."""
        ref, old = Ref.of(body), self.objects.get(Ref.of(body))
        if old and {**body, "metadata": old["metadata"]} == old and body["metadata"] == old["metadata"]:
            return copy.deepcopy(old)
        self._version += 1
        meta = body["metadata"]
        meta["resourceVersion"] = str(self._version)
        meta.setdefault("uid", f"uid-{self._version}")
        changed = old is None or old.get("spec") != body.get("spec")
        meta["generation"] = (old["metadata"]["generation"] if old else 0) + changed
        self.objects[ref] = copy.deepcopy(body)
        self.outbox[ref.kind].append(("MODIFIED" if old else "ADDED", copy.deepcopy(body)))
        return copy.deepcopy(body)

    def remove(self, ref: Ref) -> None:
        """Delete it; what it owned is collected by later moves."""
        if body := self.objects.pop(ref, None):
            self._version += 1
            body["metadata"]["resourceVersion"] = str(self._version)
            self.outbox[ref.kind].append(("DELETED", body))

    def of_kind(self, kind: str) -> list[Manifest]:
        return [self.objects[ref] for ref in sorted(self.objects) if ref.kind == kind]

    def routable(self, deployment: str, *, without: str = "") -> int:
        """Ready pods behind a deployment's Service, but for those of one workload."""
        return sum(
            pod["status"].get("phase") == "Running" and owner_of(pod) != without
            for pod in self.of_kind("Pod")
            if pod["metadata"]["labels"].get(names.NAME_LABEL) == deployment
        )

    # What the controllers and the kubelet would do next: each move is one small step towards what is asked for.

    def moves(self) -> Iterator[Move]:
        alive = {body["metadata"]["uid"] for body in self.objects.values()}
        for ref, body in sorted(self.objects.items(), key=lambda item: item[0]):
            if owner_of(body) not in ("", *alive):
                yield partial(self.remove, ref)
        for job in self.of_kind("Job"):
            if not job.get("status"):
                yield partial(self._advance, job)
        for workload in self.of_kind("Deployment"):
            yield from self._workload_moves(workload)

    def accidents(self) -> Iterator[Move]:
        """Steps away from what is asked for."""
        for job in self.of_kind("Job"):
            if not job.get("status"):
                for end in FAILURES:
                    yield partial(self._end, job, end, "Failed")
        for pod in self.of_kind("Pod"):
            yield partial(self.remove, Ref.of(pod))
            yield partial(self.put, {**pod, "status": dict(STUCK)})

    def _advance(self, job: Manifest) -> None:
        pod = next((p for p in self.of_kind("Pod") if owner_of(p) == job["metadata"]["uid"]), None)
        if pod is None:
            labels = {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
            self.put(self._pod(job, {**job["spec"]["template"]["metadata"]["labels"], **labels}))
        elif pod["status"].get("phase") != "Running":
            self.put({**pod, "status": {"phase": "Running"}})
        else:
            self._end(job, {"exitCode": 0, "reason": "Completed", "message": self._success(job)}, "Complete")

    def _success(self, job: Manifest) -> str:
        command = job["spec"]["template"]["spec"]["containers"][0]["command"]
        request = json.loads(command[command.index("--request") + 1])
        fingerprint = sha256_of(request)
        made = {"manifestSha256": sha256_of({"sealed": fingerprint}), "digest": digest_of(fingerprint)}
        return json.dumps({"fingerprint": fingerprint, "bytes": 1000, "seconds": 1.0, **made})

    def _end(self, job: Manifest, terminated: Mapping[str, Any], how: str) -> None:
        for pod in self.of_kind("Pod"):
            if owner_of(pod) == job["metadata"]["uid"]:
                containers = [{"state": {"terminated": dict(terminated)}}]
                self.put({**pod, "status": {"phase": "Succeeded", "containerStatuses": containers}})
        condition = {"type": how, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "message": "ended"}
        self.put({**job, "status": {"conditions": [condition]}})

    def _workload_moves(self, workload: Manifest) -> Iterator[Move]:
        pods = [p for p in self.of_kind("Pod") if owner_of(p) == workload["metadata"]["uid"]]
        wanted = workload["spec"]["replicas"]
        labels = workload["spec"]["template"]["metadata"]["labels"]
        if len(pods) < wanted:
            yield partial(self.put, self._pod(workload, labels))
        if len(pods) > wanted:
            yield partial(self.remove, Ref.of(pods[-1]))
        for pod in pods:
            if pod["status"].get("phase") != "Running":
                yield partial(self.put, {**pod, "status": dict(RUNNING)})
        status = {
            "observedGeneration": workload["metadata"]["generation"],
            "availableReplicas": sum(p["status"].get("phase") == "Running" for p in pods),
        }
        if workload.get("status") != status:
            yield partial(self.put, {**workload, "status": status})

    def _pod(self, owner: Manifest, labels: Mapping[str, str]) -> Manifest:
        meta = {
            "name": f"{owner['metadata']['name']}-{self._version}",
            "namespace": NAMESPACE,
            "labels": dict(labels),
            "ownerReferences": [
                {"uid": owner["metadata"]["uid"], "controller": True, "kind": owner["kind"], "name": ""}
            ],
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}, "status": {"phase": "Pending"}}


FAILURES: tuple[dict[str, Any], ...] = (
    {"exitCode": 1, "reason": "Error", "message": '{"reason":"ChecksumMismatch","message":"a.safetensors"}'},
    {"exitCode": 137, "reason": "OOMKilled", "message": ""},
    {"exitCode": 1, "reason": "Error", "message": "Traceback"},
)
RUNNING = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
STUCK = {
    "phase": "Pending",
    "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes: Insufficient nvidia.com/gpu"}],
}


def owner_of(body: Mapping[str, Any]) -> str:
    return next((o["uid"] for o in body["metadata"].get("ownerReferences", ()) if o.get("controller")), "")


def merged(old: Any, patch: Any) -> Any:
    """JSON merge (RFC 7386), which is as much of server-side apply as our manifests need."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = copy.deepcopy(dict(old)) if isinstance(old, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result
