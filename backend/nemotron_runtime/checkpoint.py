"""Read a Hugging Face checkpoint: safetensors in one file or in shards, in floating point or quantised."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from nemotron_api.checkpoint import Contents, Stored, verify
from nemotron_api.errors import WeightsInvalid
from nemotron_api.hybrid_config import HybridConfig, read_json
from nemotron_api.layout import Shape, Source
from nemotron_api.quantisation import LEGACY, read_quantisation
from nemotron_runtime.config import CONFIG
from nemotron_runtime.quantised import decode

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


NUMBERS_AT_ONCE = 2**24
"""64 MB in FP32: what packing holds in memory of a tensor, however large it is."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Files that fit each other and the model; a tensor is read from them when it is asked for, and not kept."""

    contents: Contents
    files: Mapping[str, Any]

    def read(self, source: Source) -> Iterator[Tensor]:
        """The numbers of a weight, some rows at a time: in their own type, or FP32 where they are quantised."""
        weight = self.contents.weights[source.name]
        for rows in _blocks(source.shape):
            numbers = self._content(weight.stored, rows)
            if weight.format is None:
                yield numbers
            else:
                scales = [self._content(scale, rows) for scale in weight.scales]
                yield decode(source.name, weight.format, numbers, scales)

    def _content(self, stored: Stored, rows: slice) -> Tensor:
        """Those rows of a tensor; all of it, where one number serves every row."""
        content = self.files[stored.file].get_slice(stored.key)
        place = ... if stored.shape in ((), (1,)) else rows
        tensor: Tensor = content[place] if stored.row is None else content[stored.row, place]
        return tensor


def open_checkpoint(directory: Path, model: HybridConfig) -> Checkpoint:
    """Raises WeightsInvalid, naming the file or tensor, for what is missing, truncated or not of this model."""
    files = {file: _open(directory / file) for file in _files(directory)}
    legacy = read_json(directory / LEGACY) if (directory / LEGACY).is_file() else None
    quantisation = read_quantisation(read_json(directory / CONFIG), legacy)
    headers = (header for name, file in files.items() for header in _headers(name, file))
    return Checkpoint(verify(model, quantisation, headers), files)


def _files(directory: Path) -> list[str]:
    """The safetensors files, in order."""
    if (directory / INDEX).is_file():
        try:
            shards = set(json.loads((directory / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise WeightsInvalid(f"{INDEX} is not an index of shards ({error!r}): fetch it again") from error
        return sorted(shards)
    if not (directory / SINGLE).is_file():
        raise WeightsInvalid(f"{directory.name} has neither {SINGLE} nor {INDEX}: a checkpoint needs one of them")
    return [SINGLE]


def _open(path: Path) -> Any:
    if not path.is_file():
        raise WeightsInvalid(f"{path.name} is named by {INDEX} but missing: fetch it again")
    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise WeightsInvalid(f"{path.name} is truncated or not a safetensors file ({error}): fetch it again") from error


def _headers(name: str, file: Any) -> Iterator[Stored]:
    for key in file.keys():  # noqa: SIM118 - a file handle, not a dictionary
        header = file.get_slice(key)
        yield Stored(name, key, header.get_dtype(), tuple(header.get_shape()))


def _blocks(shape: Shape) -> Iterator[slice]:
    """Rows of a tensor that are read at once."""
    size = max(1, NUMBERS_AT_ONCE // math.prod(shape[1:]))
    return (slice(start, start + size) for start in range(0, shape[0], size))
