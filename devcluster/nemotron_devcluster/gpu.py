"""Describe the GPUs a node pretends to have, in the words of NVIDIA's feature discovery."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

RESOURCE = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class GpuProduct:
    """One model of GPU, as gpu-feature-discovery labels a node that has it."""

    name: str
    family: str
    memory_mib: int
    compute_major: int
    compute_minor: int

    def labels(self, count: int) -> dict[str, str | None]:
        """Node labels for `count` of them; None (remove the label) for a node without any."""
        labels = {
            "nvidia.com/gpu.present": "true",
            "nvidia.com/gpu.product": self.name,
            "nvidia.com/gpu.family": self.family,
            "nvidia.com/gpu.count": str(count),
            "nvidia.com/gpu.replicas": "1",
            "nvidia.com/gpu.memory": str(self.memory_mib),
            "nvidia.com/gpu.compute.major": str(self.compute_major),
            "nvidia.com/gpu.compute.minor": str(self.compute_minor),
            "nvidia.com/mig.capable": "false",
        }
        return {name: value if count else None for name, value in labels.items()}


PRODUCTS: Mapping[str, GpuProduct] = MappingProxyType(
    {
        product.name: product
        for product in (
            GpuProduct("NVIDIA-L4", "ada-lovelace", 23034, 8, 9),
            GpuProduct("NVIDIA-A100-SXM4-80GB", "ampere", 81920, 8, 0),
            GpuProduct("NVIDIA-H100-80GB-HBM3", "hopper", 81559, 9, 0),
            GpuProduct("NVIDIA-H200", "hopper", 143771, 9, 0),
            GpuProduct("NVIDIA-B200", "blackwell", 183359, 10, 0),
        )
    }
)
DEFAULT_PRODUCT = "NVIDIA-H100-80GB-HBM3"


@dataclass(frozen=True, slots=True)
class Gpus:
    """What a node is told to have."""

    count: int = 0
    product: str = DEFAULT_PRODUCT

    @property
    def labels(self) -> dict[str, str | None]:
        return PRODUCTS[self.product].labels(self.count)

    @classmethod
    def read(cls, path: Path) -> "Gpus":
        """What was told last; nothing yet means none."""
        return cls(**json.loads(path.read_text())) if path.exists() else cls()

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"count": self.count, "product": self.product}))
