"""Make a `local` PersistentVolume for every claim of the default storage class, and remove it with its claim."""

import argparse
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nemotron_devcluster.api import Api, Object
from nemotron_devcluster.errors import ClusterError
from nemotron_devcluster.pki import Authority

CLASS = "local"
PROVISIONER = "nemotron.dev/local"
CLAIMS = "/api/v1/persistentvolumeclaims"
VOLUMES = "/api/v1/persistentvolumes"
RESYNC_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Provision:
    claim: Object


@dataclass(frozen=True, slots=True)
class Remove:
    volume: Object


Action = Provision | Remove


def plan(claims: list[Object], volumes: list[Object]) -> Iterator[Action]:
    """What is missing for the claims, and what no claim holds any more."""
    names = {volume["metadata"]["name"] for volume in volumes}
    for claim in claims:
        ours = claim["spec"].get("storageClassName") == CLASS and not claim["spec"].get("volumeName")
        if ours and _volume_name(claim) not in names:
            yield Provision(claim)
    for volume in volumes:
        ours = volume["spec"].get("storageClassName") == CLASS
        if ours and volume.get("status", {}).get("phase") == "Released":
            yield Remove(volume)


def volume(claim: Object, folder: Path) -> Object:
    """A volume for this claim alone. Every node sees the folder, so it is bound to none."""
    any_node = {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}
    metadata, spec = claim["metadata"], claim["spec"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": _volume_name(claim), "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": CLASS,
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [any_node]}]}},
        },
    }


def apply(action: Action, api: Api, root: Path) -> None:
    match action:
        case Provision(claim):
            folder = root / _volume_name(claim)
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o777)  # pods run as any user; fsGroup is a pod's choice
            api.post(VOLUMES, volume(claim, folder))
            metadata = claim["metadata"]
            print(f"provisioned {folder.name} for {metadata['namespace']}/{metadata['name']}", flush=True)
        case Remove(gone):
            shutil.rmtree(gone["spec"]["local"]["path"], ignore_errors=True)
            api.delete(f"{VOLUMES}/{gone['metadata']['name']}")
            print(f"removed {gone['metadata']['name']}", flush=True)


def run(api: Api, root: Path) -> None:
    """Reconcile at every change of a claim, and now and then for volumes that were released."""
    while True:
        try:
            claims = api.get(CLAIMS)
            for action in plan(claims["items"], api.get(VOLUMES)["items"]):
                apply(action, api, root)
            next(api.watch(CLAIMS, claims["metadata"]["resourceVersion"], RESYNC_SECONDS), None)
        except (ClusterError, OSError) as error:
            print(f"trying again: {error}", flush=True)
            time.sleep(1)


def _volume_name(claim: Object) -> str:
    return f"pvc-{claim['metadata']['uid']}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="where the volumes' folders are made")
    parser.add_argument("authority", type=Path, help="folder of the cluster's certificate authority")
    arguments = parser.parse_args()
    run(Api(Authority(arguments.authority, "nemotron-cluster")), arguments.directory)


if __name__ == "__main__":
    main()
