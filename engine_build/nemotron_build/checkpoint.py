"""Inspect a checkpoint by its config.json and its files' headers: is it whole, and is it the model it says it is?"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nemotron_api.errors import InvalidModel, WeightsInvalid
from nemotron_api.hybrid_config import HybridConfig, read_config
from nemotron_build import layout
from nemotron_build.safetensors_header import TensorInfo, read_header
from nemotron_build.source import Source

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER = "tokenizer.json"
FLOATS = ("F32", "F16", "BF16")

PREFIX = re.compile(r"^(backbone|model)\.")
STACKED_EXPERTS = re.compile(r"(?P<block>.*\.experts)\.(?P<name>up_proj|down_proj)")
NOT_EXECUTED = "mtp."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint whose files fit each other and the family; nothing of its data was read."""

    config: HybridConfig
    tensors: Mapping[str, TensorInfo]

    @property
    def parameters(self) -> int:
        return sum(tensor.elements for tensor in self.tensors.values())


def inspect(source: Source) -> Checkpoint:
    """What the source holds.

    Raises InvalidModel for a config.json of another architecture, WeightsInvalid naming a file that is missing,
    truncated or malformed, or a tensor that is missing or has another shape than config.json asks for.
    """
    sizes = source.sizes()
    config = read_config(_json(source, sizes, CONFIG, InvalidModel))
    if TOKENIZER not in sizes:
        raise WeightsInvalid(f"the checkpoint has no {TOKENIZER}: engines turn text into tokens with it")
    tensors = _tensors(source, sizes)
    _check_shapes(config, tensors)
    return Checkpoint(config, tensors)


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


def _tensors(source: Source, sizes: Mapping[str, int]) -> Mapping[str, TensorInfo]:
    """Every tensor, by its name as the files have it."""
    weight_map = _weight_map(source, sizes)
    found: dict[str, TensorInfo] = {}
    for file in sorted(set(weight_map.values())) or [SINGLE]:
        tensors = _header(source, sizes, file)
        if twice := found.keys() & tensors.keys():
            raise WeightsInvalid(f"tensor {min(twice)} is in {found[min(twice)].file} and in {file}: keep one")
        found |= tensors
    for name, file in weight_map.items():
        if name not in found or found[name].file != file:
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


def _header(source: Source, sizes: Mapping[str, int], file: str) -> Mapping[str, TensorInfo]:
    if file not in sizes:
        raise WeightsInvalid(
            f"{INDEX} names {file}, which is not there: copy it as well"
            if INDEX in sizes
            else f"the checkpoint has neither {SINGLE} nor {INDEX}: other formats (.bin, .gguf, .nemo) are not read"
        )
    with source.open(file) as stream:
        return read_header(file, stream, sizes[file])


def _check_shapes(config: HybridConfig, tensors: Mapping[str, TensorInfo]) -> None:
    """The checkpoint must hold exactly the tensors that its config.json explains, in shapes and types we know."""
    found = dict(_canonical(tensors, config.experts))
    expected = layout.shapes(config)
    if unknown := sorted(found.keys() - expected.keys()):
        raise WeightsInvalid(
            f"tensor {unknown[0]} in {found[unknown[0]].file} is nothing that {CONFIG} explains: "
            "is it a quantised checkpoint? Those are not served yet, take the one in BF16"
        )
    for name, shape in expected.items():
        if name not in found:
            raise WeightsInvalid(f"tensor {name} is missing: {CONFIG} asks for it, with shape {list(shape)}")
        tensor = found[name]
        if tensor.dtype not in FLOATS:
            raise WeightsInvalid(
                f"tensor {name} in {tensor.file} is {tensor.dtype}: quantised checkpoints are not served yet, "
                f"take the one in BF16 (known are {', '.join(FLOATS)})"
            )
        if tensor.shape != shape:
            raise WeightsInvalid(
                f"tensor {name} in {tensor.file} has shape {list(tensor.shape)}, {CONFIG} asks for {list(shape)}: "
                "they are not of the same model"
            )


def _canonical(tensors: Mapping[str, TensorInfo], experts: int) -> Iterator[tuple[str, TensorInfo]]:
    """Names without their prefix, a stack of experts as its experts, multi-token prediction left out."""
    for full_name, tensor in tensors.items():
        name = PREFIX.sub("", full_name)
        if name.startswith(NOT_EXECUTED):
            continue
        stack = STACKED_EXPERTS.fullmatch(name)
        if stack and tensor.shape[:1] == (experts,):
            row = replace(tensor, shape=tensor.shape[1:])
            yield from ((f"{stack['block']}.{expert}.{stack['name']}.weight", row) for expert in range(experts))
        else:
            yield name, tensor
