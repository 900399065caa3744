"""Know the GPUs by the names users write and the labels NVIDIA's feature discovery puts on nodes."""

from dataclasses import dataclass

PRODUCT_LABEL = "nvidia.com/gpu.product"
GPU_RESOURCE = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Gpu:
    sku: str
    products: tuple[str, ...]
    """Values of `nvidia.com/gpu.product` that are this SKU."""
    memory_gib: int


GPUS = {
    gpu.sku: gpu
    for gpu in (
        Gpu("L4", ("NVIDIA-L4",), 24),
        Gpu("L40S", ("NVIDIA-L40S",), 48),
        Gpu("A100-SXM-80GB", ("NVIDIA-A100-SXM4-80GB",), 80),
        Gpu("H100-PCIE", ("NVIDIA-H100-PCIe",), 80),
        Gpu("H100-NVL", ("NVIDIA-H100-NVL",), 94),
        Gpu("H100-SXM", ("NVIDIA-H100-80GB-HBM3",), 80),
        Gpu("H200-SXM", ("NVIDIA-H200",), 141),
        Gpu("B200", ("NVIDIA-B200",), 180),
        Gpu("B300", ("NVIDIA-B300",), 288),
        Gpu("RTX-PRO-6000", ("NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",), 96),
    )
}
