"""Inspect a checkpoint by its config.json and its files' headers: is it whole, and is it the model it says it is?"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nemotron_api.checkpoint import Contents, Stored, verify
from nemotron_api.errors import InvalidModel, WeightsInvalid
from nemotron_api.hybrid_config import HybridConfig, read_config
from nemotron_api.quantisation import LEGACY, read_quantisation
from nemotron_build.safetensors_header import read_header
from nemotron_build.source import Source

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files fit each other and the family; nothing of its data was read."""

    config: HybridConfig
    contents: Contents

    @property
    def parameters(self) -> int:
        """Numbers the engine gets, however the checkpoint stores them."""
        return self.contents.parameters


def inspect(source: Source) -> Checkpoint:
    """What the source holds.

    Raises InvalidModel for a config.json of another architecture or quantisation, WeightsInvalid naming a file that is
    missing, truncated or malformed, or a tensor that is missing, or not as config.json asks for.
    """
    sizes = source.sizes()
    raw = _json(source, sizes, CONFIG, InvalidModel)
    config = read_config(raw)
    if TOKENIZER not in sizes:
        raise WeightsInvalid(f"the checkpoint has no {TOKENIZER}: engines turn text into tokens with it")
    legacy = _json(source, sizes, LEGACY, InvalidModel) if LEGACY in sizes else None
    return Checkpoint(config, verify(config, read_quantisation(raw, legacy), _headers(source, sizes)))


def _json(source: Source, sizes: Mapping[str, int], path: str, wrong: type[InvalidModel | WeightsInvalid]) -> Any:
    if path not in sizes:
        raise wrong(f"the checkpoint has no {path}: the source must be the folder that holds it")
    with source.open(path) as file:
        try:
            parsed = json.load(file)
        except (ValueError, RecursionError) as error:
            raise wrong(f"{path} is not JSON ({error}): copy it again") from error
    if not isinstance(parsed, dict):
        raise wrong(f"{path} is not a JSON object: copy it again")
    return parsed


def _headers(source: Source, sizes: Mapping[str, int]) -> list[Stored]:
    """Every tensor of every file, by its name there."""
    weight_map = _weight_map(source, sizes)
    found = [tensor for file in sorted(set(weight_map.values())) or [SINGLE] for tensor in _header(source, sizes, file)]
    places = {(tensor.key, tensor.file) for tensor in found}
    for name, file in weight_map.items():
        if (name, file) not in places:
            raise WeightsInvalid(f"{INDEX} says that {file} holds tensor {name}, and it does not: copy both again")
    return found


def _weight_map(source: Source, sizes: Mapping[str, int]) -> Mapping[str, str]:
    """tensor → file, as the index of a checkpoint in several files says; empty when there is one file."""
    if INDEX not in sizes:
        return {}
    weight_map = _json(source, sizes, INDEX, WeightsInvalid).get("weight_map")
    if not (isinstance(weight_map, dict) and weight_map and all(isinstance(file, str) for file in weight_map.values())):
        raise WeightsInvalid(f"{INDEX} has no weight_map from tensors to files: copy it again")
    return weight_map


def _header(source: Source, sizes: Mapping[str, int], file: str) -> Iterator[Stored]:
    if file not in sizes:
        raise WeightsInvalid(
            f"{INDEX} names {file}, which is not there: copy it as well"
            if INDEX in sizes
            else f"the checkpoint has neither {SINGLE} nor {INDEX}: other formats (.bin, .gguf, .nemo) are not read"
        )
    with source.open(file) as stream:
        tensors = read_header(file, stream, sizes[file])
    yield from (Stored(file, name, tensor.dtype, tensor.shape) for name, tensor in tensors.items())
