"""Write and read an engine's one weights file: safetensors, written one tensor at a time."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nemotron_api.errors import EngineMismatch
from nemotron_runtime.layout import Packed, Source

NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}

ALIGNMENT = 64


def dtype_of(packed: Packed, dtype: torch.dtype) -> torch.dtype:
    """The type a tensor has in an engine of this precision."""
    return torch.float32 if packed.wide else dtype


def size_of(packed: Packed, dtype: torch.dtype) -> int:
    """Bytes of the tensor in an engine of this precision."""
    return packed.elements * dtype_of(packed, dtype).itemsize


def write_tensors(path: Path, layout: Iterable[Packed], dtype: torch.dtype, read: Callable[[Source], Tensor]) -> None:
    """Write `layout` in the safetensors format, holding one checkpoint tensor in memory at a time."""
    layout = tuple(layout)
    with path.open("wb") as file:
        file.write(_header(layout, dtype))
        for packed in layout:
            for source in packed.sources:
                values = read(source).to(dtype_of(packed, dtype)).contiguous()
                # numpy has no bfloat16: the bytes are the same whatever they are called.
                file.write(values.view(torch.uint8).numpy().data)


def read_tensors(path: Path, layout: Iterable[Packed], dtype: torch.dtype) -> dict[str, Tensor]:
    """The engine's tensors by name. Raises EngineMismatch unless they are exactly what `layout` says."""
    try:
        return dict(_tensors(path, layout, dtype))
    except (SafetensorError, OSError) as error:
        raise EngineMismatch(f"{path.name} cannot be read ({error}): build the engine again") from error


def _tensors(path: Path, layout: Iterable[Packed], dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    with safe_open(str(path), framework="pt") as file:
        for packed in layout:
            tensor = file.get_tensor(packed.name)
            if tuple(tensor.shape) != packed.shape or tensor.dtype != dtype_of(packed, dtype):
                raise EngineMismatch(
                    f"{packed.name} in {path.name} is not what config.json says: build the engine again"
                )
            # A copy of its own is aligned, which the file's bytes need not be; matrix products depend on it.
            yield packed.name, tensor.clone()


def _header(layout: tuple[Packed, ...], dtype: torch.dtype) -> bytes:
    """The format's header: its length in 8 bytes, then JSON with every tensor's type, shape and place."""
    entries, start = {}, 0
    for packed in layout:
        stop = start + size_of(packed, dtype)
        name = NAMES[dtype_of(packed, dtype)]
        entries[packed.name] = {"dtype": name, "shape": packed.shape, "data_offsets": [start, stop]}
        start = stop
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
