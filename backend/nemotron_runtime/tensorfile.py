"""Write and map an engine's one weights file: safetensors whose tensors all begin at whole cache lines."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nemotron_api.errors import EngineMismatch
from nemotron_api.layout import MTP, Packed, Source, without_mtp

NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}

ALIGNMENT = 64


def dtype_of(packed: Packed, dtype: torch.dtype) -> torch.dtype:
    """The type a tensor has in an engine of this precision."""
    return torch.float32 if packed.wide else dtype


def size_of(packed: Packed, dtype: torch.dtype) -> int:
    """Bytes of the tensor in an engine of this precision."""
    return packed.elements * dtype_of(packed, dtype).itemsize


def padding_of(packed: Packed, dtype: torch.dtype) -> int:
    """Bytes between the tensor's end and where the next one may begin."""
    return -size_of(packed, dtype) % ALIGNMENT


def write_tensors(
    path: Path, layout: Iterable[Packed], dtype: torch.dtype, read: Callable[[Source], Iterable[Tensor]]
) -> None:
    """Write `layout` in the safetensors format, holding one piece of what `read` gives in memory at a time."""
    layout = tuple(layout)
    with path.open("wb") as file:
        file.write(_header(layout, dtype))
        for packed in layout:
            for piece in chain.from_iterable(map(read, packed.sources)):
                values = piece.to(dtype_of(packed, dtype)).contiguous()
                # numpy has no bfloat16: the bytes are the same whatever they are called.
                file.write(values.view(torch.uint8).numpy().data)
            file.write(bytes(padding_of(packed, dtype)))


def read_tensors(path: Path, layout: Iterable[Packed], dtype: torch.dtype) -> dict[str, Tensor]:
    """The engine's tensors by name, as views of the mapped file: memory that processes share and the kernel may drop.

    An engine packed without the multi-token-prediction module has none of its tensors. Raises EngineMismatch unless
    the tensors are exactly what `layout` says.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            drafts = any(name.startswith(MTP) for name in file.keys())  # noqa: SIM118 - a file handle, no dictionary
            return {
                packed.name: _checked(path, file, packed, dtype)
                for packed in (layout if drafts else without_mtp(layout))
            }
    except (SafetensorError, OSError) as error:
        raise EngineMismatch(f"{path.name} cannot be read ({error}): build the engine again") from error


def _checked(path: Path, file: Any, packed: Packed, dtype: torch.dtype) -> Tensor:
    tensor: Tensor = file.get_tensor(packed.name)
    if tuple(tensor.shape) != packed.shape or tensor.dtype != dtype_of(packed, dtype):
        raise EngineMismatch(f"{packed.name} in {path.name} is not what config.json says: build the engine again")
    # Matrix products round differently on memory that is not aligned.
    if tensor.data_ptr() % ALIGNMENT:
        raise EngineMismatch(f"{packed.name} in {path.name} is not aligned to {ALIGNMENT}: build the engine again")
    return tensor


def _header(layout: tuple[Packed, ...], dtype: torch.dtype) -> bytes:
    """The format's header: its length in 8 bytes, then JSON with every tensor's type, shape and place."""
    text = json.dumps(dict(_entries(layout, dtype)), separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _entries(layout: tuple[Packed, ...], dtype: torch.dtype) -> Iterator[tuple[str, dict[str, Any]]]:
    """The format allows no holes between tensors, so what fills them up to the alignment is tensors too."""
    start = 0
    for packed in layout:
        stop = start + size_of(packed, dtype)
        name = NAMES[dtype_of(packed, dtype)]
        yield packed.name, {"dtype": name, "shape": packed.shape, "data_offsets": [start, stop]}
        start = stop + padding_of(packed, dtype)
        if start > stop:
            yield f"padding.{stop}", {"dtype": "U8", "shape": [start - stop], "data_offsets": [stop, start]}
