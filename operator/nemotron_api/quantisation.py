"""Read which weights of a checkpoint are quantised, and how, from what NVIDIA's Model Optimizer says of them.

It writes `quantization_config` into config.json, and hf_quant_config.json in older versions alone, in newer ones beside
it; formats and keys as `modelopt/torch/export/convert_hf_config.py` has them. Standard library only.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from nemotron_api.errors import InvalidModel
from nemotron_api.layout import canonical

LEGACY = "hf_quant_config.json"

Format = Literal["FP8", "NVFP4"]

FORMATS: Mapping[str, Format] = {"FP8": "FP8", "NVFP4": "NVFP4", "W4A16_NVFP4": "NVFP4"}
"""quant_algo → how weights are stored; algorithms that differ in their activations alone are one format."""

MIXED = "MIXED_PRECISION"


@dataclass(frozen=True, slots=True)
class Quantisation:
    """Which weights of matrix products are quantised; without arguments, none is."""

    everywhere: Format | None = None
    """The format of all of them, except the excluded."""
    layers: Mapping[str, Format] = field(default_factory=dict)
    """The format of these modules and of all below them."""
    excluded: frozenset[str] = frozenset()
    """Modules that are not, with all below them, or parts of their names ("conv1d")."""
    wildcards: tuple[str, ...] = ()
    """More of them, as patterns."""

    def format_of(self, module: str) -> Format | None:
        """How the weight of a module with this canonical name is stored; None for floating point."""
        path = tuple(_upwards(module))
        if not self.excluded.isdisjoint((*path, *module.split("."))):
            return None
        if any(fnmatchcase(name, pattern) for pattern in self.wildcards for name in path):
            return None
        return next((self.layers[name] for name in path if name in self.layers), self.everywhere)


def read_quantisation(config: Mapping[str, Any], legacy: Mapping[str, Any] | None = None) -> Quantisation:
    """What the parsed config.json says, or else the parsed hf_quant_config.json.

    Raises InvalidModel for what another tool quantised, and for formats that are not served.
    """
    if said := config.get("quantization_config"):
        method = said.get("quant_method") if isinstance(said, Mapping) else said
        if method != "modelopt":
            raise InvalidModel(f"config.json says quant_method {method!r}: {_TAKE}")
        return _read("config.json", said, said.get("ignore"))
    if legacy is None:
        return Quantisation()
    said = legacy.get("quantization")
    if not isinstance(said, Mapping):
        raise InvalidModel(f"{LEGACY} has no object named quantization: copy it again")
    return _read(LEGACY, said, said.get("exclude_modules"))


_TAKE = f"known are checkpoints of NVIDIA's Model Optimizer in {', '.join(FORMATS)} or a mix of them; take one in BF16"


def _read(file: str, said: Mapping[str, Any], excluded: object) -> Quantisation:
    names = _modules(file, excluded)
    algorithm = said.get("quant_algo")
    if str(algorithm).upper() != MIXED:
        return Quantisation(_format(file, algorithm), {}, *_excluded(names))
    layers = said.get("quantized_layers")
    if not (isinstance(layers, Mapping) and layers and all(isinstance(layer, Mapping) for layer in layers.values())):
        raise InvalidModel(f"{file} says {MIXED} and has no quantized_layers that name each layer's: copy it again")
    formats = {_module(name): _format(file, layer.get("quant_algo")) for name, layer in layers.items()}
    return Quantisation(None, formats, *_excluded(names))


def _format(file: str, algorithm: object) -> Format:
    found = FORMATS.get(str(algorithm).upper())
    if found is None:
        raise InvalidModel(f"{file} says quant_algo {algorithm!r}: {_TAKE}")
    return found


def _modules(file: str, excluded: object) -> tuple[str, ...]:
    names = [] if excluded is None else excluded
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise InvalidModel(f"{file} lists modules that are not quantised as {excluded!r}, not as names: copy it again")
    return tuple(_module(name) for name in names)


def _module(name: str) -> str:
    # Model Optimizer 0.47 on transformers 5 writes "lm_head.\0backbone.pt_name_sentinel" and means lm_head.
    return canonical(name.partition("\0")[0].removesuffix("."))


def _excluded(names: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Names, which thousands of modules are quickly looked up in, and patterns."""
    wild = tuple(name for name in names if "*" in name or "?" in name)
    return frozenset(names) - {*wild}, wild


def _upwards(module: str) -> Iterator[str]:
    """The module and those it is in, from the inside out."""
    while module:
        yield module
        module = module.rpartition(".")[0]
