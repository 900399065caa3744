"""Read and check the header of a safetensors file without loading a tensor.

The format: 8 bytes with the header's length (little endian), the header (JSON: name → dtype, shape, data_offsets), then
the data. https://huggingface.co/docs/safetensors/index#format
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from nemotron_api.errors import WeightsInvalid

HEADER_BYTES_MAX = 100_000_000
"""What the safetensors library itself accepts."""

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as its file's header describes it: `file` to name in errors, `end` its last byte in the data."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def read_header(file: str, stream: BinaryIO, size_bytes: int) -> Mapping[str, TensorInfo]:
    """The tensors of one file of `size_bytes`; raises WeightsInvalid naming `file` and what is wrong with it."""
    if size_bytes < 8:
        raise WeightsInvalid(f"{file} has {size_bytes} bytes, too few for a safetensors file: copy it again")
    length = int.from_bytes(stream.read(8), "little")
    if length > HEADER_BYTES_MAX:
        raise WeightsInvalid(
            f"{file} is not a safetensors file: its header would have {length} bytes (at most {HEADER_BYTES_MAX})"
        )
    if 8 + length > size_bytes:
        raise WeightsInvalid(_truncated(file, 8 + length, size_bytes))
    tensors = {name: _tensor(file, name, entry) for name, entry in _parse(file, stream.read(length)).items()}
    expected = 8 + length + max((tensor.end for tensor in tensors.values()), default=0)
    if expected > size_bytes:
        raise WeightsInvalid(_truncated(file, expected, size_bytes))
    if expected < size_bytes:
        raise WeightsInvalid(f"{file} has {size_bytes} bytes, its header describes {expected}: copy it again")
    _check_gapless(file, tensors)
    return tensors


def _truncated(file: str, expected: int, actual: int) -> str:
    return f"{file} is truncated: its header asks for {expected} bytes, the file has {actual}: copy it again"


def _parse(file: str, header: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise WeightsInvalid(f"{file} has a header that is not JSON ({error}): copy it again") from error
    if not isinstance(parsed, dict):
        raise WeightsInvalid(f"{file} has a header that is not a JSON object: copy it again")
    parsed.pop("__metadata__", None)
    return parsed


def _tensor(file: str, name: str, entry: Any) -> TensorInfo:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(end)]} if all(
            isinstance(size, int) and size >= 0 for size in shape
        ):
            tensor = TensorInfo(file, dtype, tuple(shape), begin, end)
        case _:
            raise WeightsInvalid(f"{file} describes tensor {name!r} in a way the format does not know: copy it again")
    if dtype not in _BITS:
        raise WeightsInvalid(f"{file} holds tensor {name!r} as {dtype}: known are {', '.join(sorted(_BITS))}")
    if not 0 <= begin <= end or (end - begin) * 8 != tensor.elements * _BITS[dtype]:
        raise WeightsInvalid(
            f"{file} gives tensor {name!r} {end - begin} bytes; {list(shape)} of {dtype} takes "
            f"{tensor.elements * _BITS[dtype] // 8}: copy it again"
        )
    return tensor


def _check_gapless(file: str, tensors: Mapping[str, TensorInfo]) -> None:
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != position:
            raise WeightsInvalid(f"{file} has tensor {name!r} at byte {tensor.begin} of its data, not at {position}")
        position = tensor.end
