"""Settle which device an engine computes on, and that it rounds there as its types say."""

import torch

from nemotron_api.errors import EngineMismatch


def choose_device(name: str | None) -> torch.device:
    """The device of that name; without one, CUDA's current one, or the CPU where there is none.

    Raises EngineMismatch for a device that is not there.
    """
    has_cuda = torch.cuda.is_available()
    if name is None:
        return torch.device("cuda" if has_cuda else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not has_cuda:
        raise EngineMismatch(f"torch finds no CUDA device, but {name} was asked for: see nvidia-smi, or ask for cpu")
    return device


def round_as_typed() -> None:
    """Have CUDA multiply FP32 as FP32, not as TF32, and sum up products of shorter types in FP32, too."""
    matmul = torch.backends.cuda.matmul
    matmul.fp32_precision = "ieee"
    matmul.allow_bf16_reduced_precision_reduction = False
    matmul.allow_fp16_reduced_precision_reduction = False
