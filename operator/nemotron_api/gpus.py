"""Know the GPUs by the names users write and the labels NVIDIA's feature discovery puts on nodes."""

from collections.abc import Mapping
from dataclasses import dataclass

PRODUCT_LABEL = "nvidia.com/gpu.product"
GPU_RESOURCE = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One SKU, as NVIDIA's data sheets have it."""

    sku: str
    products: tuple[str, ...]
    """Values of `nvidia.com/gpu.product` that are this SKU."""
    memory_gb: int
    """10⁹ bytes; drivers report a little more of most."""
    bandwidth_gb_per_second: int
    capability: tuple[int, int]
    """CUDA compute capability."""
    linked: int = 1
    """GPUs that reach each other by NVLink within one node: the most that share every layer."""

    @property
    def memory_bytes(self) -> int:
        return self.memory_gb * 10**9

    @property
    def has_fp8(self) -> bool:
        """Whether its tensor cores multiply FP8."""
        return self.capability >= (8, 9)

    @property
    def has_fp4(self) -> bool:
        """Whether its tensor cores multiply NVFP4; elsewhere such weights are decoded on the way."""
        return self.capability >= (10, 0)


GPUS: Mapping[str, Gpu] = {
    gpu.sku: gpu
    for gpu in (
        Gpu("L4", ("NVIDIA-L4",), 24, 300, (8, 9)),
        Gpu("L40S", ("NVIDIA-L40S",), 48, 864, (8, 9)),
        Gpu("RTX-4090", ("NVIDIA-GeForce-RTX-4090",), 24, 1008, (8, 9)),
        Gpu("RTX-5090", ("NVIDIA-GeForce-RTX-5090",), 32, 1792, (12, 0)),
        Gpu(
            "RTX-PRO-6000",
            (
                "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
                "NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition",
                "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition",
            ),
            96,
            1597,
            (12, 0),
        ),
        Gpu("DGX-SPARK", ("NVIDIA-GB10",), 128, 273, (12, 1)),
        Gpu("A100-SXM-40GB", ("NVIDIA-A100-SXM4-40GB",), 40, 1555, (8, 0), linked=8),
        Gpu("A100-PCIE-80GB", ("NVIDIA-A100-80GB-PCIe",), 80, 1935, (8, 0), linked=2),
        Gpu("A100-SXM-80GB", ("NVIDIA-A100-SXM4-80GB",), 80, 2039, (8, 0), linked=8),
        Gpu("H100-PCIE", ("NVIDIA-H100-PCIe",), 80, 2000, (9, 0), linked=2),
        Gpu("H100-NVL", ("NVIDIA-H100-NVL",), 94, 3938, (9, 0), linked=2),
        Gpu("H100-SXM", ("NVIDIA-H100-80GB-HBM3",), 80, 3350, (9, 0), linked=8),
        Gpu("H200-NVL", ("NVIDIA-H200-NVL",), 141, 4800, (9, 0), linked=4),
        Gpu("H200-SXM", ("NVIDIA-H200",), 141, 4800, (9, 0), linked=8),
        Gpu("B200", ("NVIDIA-B200",), 180, 8000, (10, 0), linked=8),
        Gpu("B300", ("NVIDIA-B300", "NVIDIA-B300-SXM6-AC"), 270, 8000, (10, 3), linked=8),
        Gpu("GB200", ("NVIDIA-GB200",), 186, 8000, (10, 0), linked=4),
        Gpu("GB300", ("NVIDIA-GB300",), 278, 8000, (10, 3), linked=4),
    )
}
