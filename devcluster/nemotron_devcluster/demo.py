"""Show the whole story in a terminal: a cluster, the operator, a model served, replicas that follow load."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from nemotron_devcluster import machine, project_images
from nemotron_devcluster.cluster import Cluster
from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.home import CLONE, home
from nemotron_devcluster.kubectl import Kubectl
from nemotron_devcluster.progress import step, wait_until
from nemotron_devcluster.release import Images, install

NAMESPACE = "demo"
NAME = "tiny"
SAMPLE = CLONE / "manifests/samples/tiny.yaml"
CHECKPOINT = CLONE / "examples/tiny/checkpoint"
PROMPT = "What is free software?"
READY_SECONDS = 600
QUIET_SECONDS = 300

CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: models}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 2Gi}}}
"""

CLIENT = """
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  terminationGracePeriodSeconds: 1
  containers:
    - name: client
      image: IMAGE
      command: [sleep, infinity]
      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
      volumeMounts: [{name: models, mountPath: /models}]
  volumes: [{name: models, persistentVolumeClaim: {claimName: models}}]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--down", action="store_true", help="remove what the demo made, the local cluster included")
    arguments = parser.parse_args()
    try:
        down() if arguments.down else show()
    except ClusterError as error:
        sys.exit(f"\ndemo: {error}")


def show() -> None:
    began = time.monotonic()
    chapter("A Kubernetes cluster")
    kubectl, images = prepare()
    print(kubectl.run("get", "nodes"))

    chapter("The operator, by Helm chart")
    with step("helm upgrade --install nemotron charts/nemotron-operator"):
        install(kubectl, images, "nemotron", {"connectionAgeSeconds": "5"})

    chapter("A checkpoint on a claim, as a user would put it there")
    bring_checkpoint(kubectl, images)

    chapter("kubectl apply -f manifests/samples/tiny.yaml")
    print(SAMPLE.read_text())
    kubectl.run("apply", "-f", str(SAMPLE))
    watch_until_ready(kubectl)
    print(kubectl.run("get", "nd,na"))

    chapter(f"python client.py --chat {PROMPT!r}, inside the cluster")
    ask(kubectl, PROMPT)

    chapter("Twelve streams at once: replicas follow")
    follow_load(kubectl)

    chapter(f"Done in {time.monotonic() - began:.0f} s. What to try next")
    print(next_commands(kubectl))


def prepare() -> tuple[Kubectl, Images]:
    """The local cluster with both images, or the user's own with images they name."""
    if os.environ.get("CLUSTER") == "existing":
        return Kubectl(None, None, NAMESPACE), _named_images()
    cluster = Cluster(home())
    with machine.exclusively():
        cluster.up(int(os.environ.get("NODES") or 1))
        made = (project_images.operator(cluster.home), project_images.backend(cluster.home))
        cluster.add_images(made)
    kubectl = Kubectl(cluster.home.bin, cluster.home.kubeconfig, NAMESPACE)
    return kubectl, Images(*(image.reference for image in made))


def _named_images() -> Images:
    try:
        return Images(os.environ["OPERATOR_IMAGE"], os.environ["BACKEND_IMAGE"])
    except KeyError as missing:
        raise ClusterError(f"CLUSTER=existing needs {missing.args[0]}: an image your cluster can pull") from missing


def bring_checkpoint(kubectl: Kubectl, images: Images) -> None:
    with step("a claim, and a pod that can write to it"):
        if NAMESPACE not in kubectl.run("get", "namespaces", "-o", "name"):
            kubectl.run("create", "namespace", NAMESPACE)
        kubectl.run("apply", "-f", "-", text=CLAIM + "---" + CLIENT.replace("IMAGE", images.backend))
        kubectl.run("wait", "--for=condition=Ready", "pod/client", "--timeout=300s")
    with step(f"kubectl cp {CHECKPOINT.relative_to(CLONE)} client:/models/{NAME}"):
        kubectl.run("exec", "client", "--", "mkdir", "-p", f"/models/{NAME}")
        kubectl.run("cp", f"{CHECKPOINT}/.", f"client:/models/{NAME}")
        for script in ("client.py", "load.py"):
            kubectl.run("cp", str(CLONE / "examples" / script), f"client:/models/{script}")


def watch_until_ready(kubectl: Kubectl) -> None:
    """Print each condition as it turns, with the seconds since the apply."""
    began, shown = time.monotonic(), dict[str, tuple[str, str]]()

    def is_ready() -> bool:
        body = kubectl.get("nd", NAME)
        for condition in body.get("status", {}).get("conditions", ()):
            turned = (condition["status"], condition["reason"])
            if shown.get(condition["type"]) != turned:
                shown[condition["type"]] = turned
                # Until it is true, Ready repeats the line above it.
                if condition["type"] != "Ready" or condition["status"] == "True":
                    print_condition(time.monotonic() - began, condition)
        return shown.get("Ready", ("", ""))[0] == "True" and _is_current(body)

    late = ClusterError(f"{NAME} is not Ready after {READY_SECONDS} s: kubectl -n {NAMESPACE} describe nd {NAME}")
    wait_until(is_ready, seconds=READY_SECONDS, else_raise=lambda: late)


def _is_current(body: Mapping[str, Any]) -> bool:
    return bool(body["status"].get("observedGeneration") == body["metadata"]["generation"])


def print_condition(seconds: float, condition: Mapping[str, str]) -> None:
    mark = {"True": "✓", "False": "·"}.get(condition["status"], "?")
    message = condition["message"] if len(condition["message"]) < 90 else condition["message"][:87] + "…"
    print(f"{seconds:5.1f} s  {mark} {condition['type']:<18} {condition['reason']:<24} {message}", flush=True)


def ask(kubectl: Kubectl, prompt: str) -> None:
    """Print the answer as it comes."""
    options = ("--model", NAME, "--chat", "--max-tokens", "200", "--temperature", "0")
    command = ("python3", "/models/client.py", "--url", url(), *options, prompt)
    for piece in kubectl.lines("exec", "client", "--", *command):
        print(piece, end="", flush=True)


def url() -> str:
    return f"dns:///{NAME}-pods.{NAMESPACE}.svc:8001"


def follow_load(kubectl: Kubectl) -> None:
    """Load for as long as it takes to see a second replica, then silence until it is gone again."""
    command = ("python3", "/models/load.py", "--url", url(), "--model", NAME, "--streams", "12", "--seconds", "35")
    argv = [*kubectl.argv("kubectl", ("exec", "client", "--", *command))]
    load = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=kubectl.environment())
    began, seen = time.monotonic(), [0]

    def settled() -> bool:
        status = kubectl.get("nd", NAME)["status"]
        count = status.get("routableReplicas", 0)
        if count != seen[-1]:
            seen.append(count)
            under = "under load" if load.poll() is None else "quiet"
            print(f"{time.monotonic() - began:5.1f} s  {'■' * count:<4} {count} routable, {under}", flush=True)
        return load.poll() is not None and max(seen) > 1 and count == 1

    late = ClusterError(f"replicas did not rise and fall within {QUIET_SECONDS} s: kubectl describe nd {NAME}")
    wait_until(settled, seconds=QUIET_SECONDS, else_raise=lambda: late)
    print(f"         {load.communicate()[0].strip()}")


def next_commands(kubectl: Kubectl) -> str:
    paths = f"export KUBECONFIG={kubectl.kubeconfig} PATH={kubectl.bin}:$PATH\n" if kubectl.bin else ""
    return f"""{paths}kubectl config set-context --current --namespace {NAMESPACE}
kubectl get nd,na,pods                # everything there is
kubectl describe nd {NAME}              # why it is as it is
kubectl exec client -- python3 /models/client.py --url {url()} --model {NAME} "You may "
kubectl scale nd/{NAME} --replicas=2    # refused with a sentence, since scaling is set
kubectl delete nd {NAME}                # the artifacts stay: apply it again and see how fast it is
make demo-down                        # remove everything
"""


def down() -> None:
    if os.environ.get("CLUSTER") == "existing":
        kubectl = Kubectl(None, None, NAMESPACE)
        with step("removing the demo's namespace and the release"):
            kubectl.run("delete", "namespace", NAMESPACE, "--ignore-not-found")
            kubectl.helm("uninstall", "nemotron", "--namespace", "nemotron-system", "--ignore-not-found")
        return
    with machine.exclusively():
        Cluster(home()).down()
        machine.release()


def chapter(title: str) -> None:
    print(f"\n\033[1m{title}\033[0m\n" if sys.stdout.isatty() else f"\n{title}\n", flush=True)


if __name__ == "__main__":
    main()
