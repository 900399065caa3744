"""Describe an image as the stack of its layers and what a container of it runs."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nemotron_devcluster.layer import Layer

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the local cluster. Its reference names its content, so a change is always a new reference."""

    repository: str
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = "0:0"

    @property
    def reference(self) -> str:
        return f"{self.repository}:{hashlib.sha256(self.config).hexdigest()[:12]}"

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The identity of each layer. By the letter it is the digest of a tar archive; there is none here."""
        return tuple(_digest(layer.directory_name.encode()) for layer in self.layers)

    @property
    def chain_ids(self) -> tuple[str, ...]:
        """The name of the stack up to each layer, as containerd names its snapshots (OCI image spec, ChainID)."""
        chain: list[str] = []
        for diff in self.diff_ids:
            chain.append(_digest(f"{chain[-1]} {diff}".encode()) if chain else diff)
        return tuple(chain)

    @property
    def config(self) -> bytes:
        container: dict[str, Any] = {
            "User": self.user,
            "Env": [f"{name}={value}" for name, value in self.environment.items()],
            "Entrypoint": list(self.entrypoint),
            "WorkingDir": "/",
        }
        rootfs = {"type": "layers", "diff_ids": list(self.diff_ids)}
        return _json({"architecture": "amd64", "os": "linux", "config": container, "rootfs": rootfs})

    def archive(self) -> bytes:
        """An OCI archive of the image's description alone: manifest and config, no layer."""
        layers = [{"mediaType": LAYER_TYPE, "digest": diff, "size": 0} for diff in self.diff_ids]
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": _descriptor(CONFIG_TYPE, self.config),
                "layers": layers,
            }
        )
        name = {"io.containerd.image.name": self.reference}
        index = {"schemaVersion": 2, "manifests": [{**_descriptor(MANIFEST_TYPE, manifest), "annotations": name}]}
        files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
        for blob in (manifest, self.config):
            files[f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}"] = blob
        return _tar(files)


def _tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
