"""Decode the weights of quantised checkpoints into FP32.

FP8: one E4M3 number per weight and one FP32 scale per tensor. NVFP4: two E2M1 numbers per byte, the first in the low
bits, one E4M3 scale per 16 inputs, one FP32 scale per tensor. As `modelopt/torch/quantization/qtensor` writes them.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nemotron_api.checkpoint import BLOCK
from nemotron_api.errors import WeightsInvalid
from nemotron_api.quantisation import Format

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""The number of each 4-bit code: a sign, two bits of exponent, one of mantissa."""


def decode(name: str, stored_as: Format, weight: Tensor, scales: Sequence[Tensor]) -> Tensor:
    """FP32 numbers of a quantised weight: the exact products of codes and scales, each rounded once.

    Raises WeightsInvalid, naming the tensor, for a scale that is zero, negative or no number, or overflows FP32.
    """
    *_, tensor_scale = scales
    if not 0 < tensor_scale.item() < float("inf"):
        raise WeightsInvalid(f"the scale of tensor {name} is {tensor_scale.item()}: it must be positive, copy it again")
    decoded = fp8(weight, tensor_scale) if stored_as == "FP8" else nvfp4(weight, *scales)
    if not decoded.isfinite().all():
        raise WeightsInvalid(f"tensor {name} decodes from {stored_as} to numbers that are not finite: copy it again")
    return decoded


def fp8(weight: Tensor, scale: Tensor) -> Tensor:
    """weight: E4M3 (outputs, inputs), scale: one FP32 number → FP32 (outputs, inputs)."""
    return weight.float() * scale.reshape(())


def nvfp4(codes: Tensor, block_scales: Tensor, scale: Tensor) -> Tensor:
    """codes: uint8 (outputs, inputs / 2), block_scales: E4M3 (outputs, inputs / 16), scale: one FP32 number → FP32.

    A block whose scale is 0 decodes to zeros: older exports round the scale of blocks of tiny numbers to 0.
    """
    outputs, blocks = block_scales.shape
    numbers = F.embedding(codes.int(), _pairs()).reshape(outputs, blocks, BLOCK)
    # Code times block scale has 6 bits and is exact: only the last product rounds.
    numbers.mul_(block_scales.float()[..., None]).mul_(scale.reshape(()))
    return numbers.reshape(outputs, blocks * BLOCK)


def _pairs() -> Tensor:
    """FP32 (256, 2): the two numbers of every byte."""
    codes, numbers = torch.arange(256), torch.tensor(E2M1)
    return torch.stack([numbers[codes & 0xF], numbers[codes >> 4]], dim=-1)
