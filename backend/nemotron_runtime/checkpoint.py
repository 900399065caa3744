"""Read a Hugging Face checkpoint: safetensors in one file or in shards, in floating point or quantised."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from nemotron_api.checkpoint import Contents, Stored, verify
from nemotron_api.errors import WeightsInvalid
from nemotron_api.hybrid_config import HybridConfig, read_json
from nemotron_api.layout import Source
from nemotron_api.quantisation import LEGACY, read_quantisation
from nemotron_runtime.config import CONFIG
from nemotron_runtime.quantised import decode

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Files that fit each other and the model; a tensor is read from them when it is asked for, and not kept."""

    contents: Contents
    files: Mapping[str, Any]

    def read(self, source: Source) -> Tensor:
        """The numbers of a weight: in their own type, or FP32 where they are quantised."""
        weight = self.contents.weights[source.name]
        numbers = self._content(weight.stored)
        if weight.format is None:
            return numbers
        return decode(source.name, weight.format, numbers, [self._content(scale) for scale in weight.scales])

    def _content(self, stored: Stored) -> Tensor:
        content = self.files[stored.file].get_slice(stored.key)
        # A scalar has nothing to slice.
        tensor: Tensor = content[...] if stored.row is None else content[stored.row]
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
