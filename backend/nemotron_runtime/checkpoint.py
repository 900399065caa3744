"""Read a Hugging Face checkpoint: safetensors in one file or in shards, whatever prefix its names carry."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from nemotron_api.errors import WeightsInvalid
from nemotron_runtime.layout import Packed, Source

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

PREFIX = re.compile(r"^(backbone|model)\.")
STACKED_EXPERTS = re.compile(r"^(?P<block>.*\.experts)\.(?P<name>up_proj|down_proj)$")
NOT_EXECUTED = re.compile(r"^mtp\.")

DTYPES = ("F64", "F32", "F16", "BF16")
QUANTISED = "quantised checkpoints are not supported yet, use the BF16 one"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a tensor lies: a file, the name it has there, and the row of a stack of experts, if it is one."""

    file: Any
    file_name: str
    key: str
    row: int | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Tensors by canonical name (`layers.0.mixer.in_proj.weight`); read from disk only when asked for.

    Weights of the multi-token-prediction module (`mtp.*`) are accepted and left out: nothing executes them yet.
    """

    directory: Path
    tensors: dict[str, Location] = field(default_factory=dict)

    def verify(self, layout: tuple[Packed, ...]) -> None:
        """Raise WeightsInvalid unless the checkpoint holds exactly the tensors and shapes that `layout` names."""
        sources = {source.name: source for packed in layout for source in packed.sources}
        if missing := [name for name in sources if name not in self.tensors]:
            raise WeightsInvalid(f"{self.directory.name} lacks {_some(missing)}, which its config.json asks for")
        if unknown := [name for name in self.tensors if name not in sources and not NOT_EXECUTED.match(name)]:
            raise WeightsInvalid(
                f"{self.directory.name} holds {_some(unknown)}, which its config.json does not explain: {QUANTISED}"
            )
        for source in sources.values():
            self._verify_one(source)

    def _verify_one(self, source: Source) -> None:
        place = self.tensors[source.name]
        header = place.file.get_slice(place.key)
        if (dtype := header.get_dtype()) not in DTYPES:
            raise WeightsInvalid(f"{source.name} in {place.file_name} is {dtype}: {QUANTISED}")
        shape = tuple(header.get_shape()) if place.row is None else tuple(header.get_shape())[1:]
        if shape != source.shape:
            raise WeightsInvalid(
                f"{source.name} in {place.file_name} has shape {shape}, but config.json asks for {source.shape}: "
                "they are not of the same model"
            )

    def read(self, source: Source) -> Tensor:
        """The tensor's content in its own dtype."""
        place = self.tensors[source.name]
        content = place.file.get_slice(place.key)
        tensor: Tensor = content[:] if place.row is None else content[place.row]
        return tensor


def open_checkpoint(directory: Path) -> Checkpoint:
    """Raises WeightsInvalid, naming the file, when one is missing, truncated or no safetensors file."""
    checkpoint = Checkpoint(directory)
    for file in _files(directory):
        for name, location in _locations(directory / file):
            if name in checkpoint.tensors:
                raise WeightsInvalid(f"{name} is in both {checkpoint.tensors[name].file_name} and {file}: keep one")
            checkpoint.tensors[name] = location
    return checkpoint


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


def _locations(path: Path) -> Iterator[tuple[str, Location]]:
    """Every tensor of one file; a stack of experts counts as its experts."""
    if not path.is_file():
        raise WeightsInvalid(f"{path.name} is named by {INDEX} but missing: fetch it again")
    try:
        file: Any = safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise WeightsInvalid(f"{path.name} is truncated or not a safetensors file ({error}): fetch it again") from error
    for key in file.keys():  # noqa: SIM118 - a file handle, not a dictionary
        name = PREFIX.sub("", key)
        if stack := STACKED_EXPERTS.match(name):
            for row in range(file.get_slice(key).get_shape()[0]):
                yield f"{stack['block']}.{row}.{stack['name']}.weight", Location(file, path.name, key, row)
        else:
            yield name, Location(file, path.name, key)


def _some(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
