"""Hold the headers of a checkpoint's files against its config.json: is every tensor there, and what it should be?

Standard library only, and no tensor is read: the build asks before it copies, the runtime before it packs.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from nemotron_api.errors import WeightsInvalid
from nemotron_api.hybrid_config import HybridConfig
from nemotron_api.layout import MTP, Packed, Shape, Source, canonical, layout, sources, without_mtp
from nemotron_api.quantisation import Format, Quantisation

FLOATS = ("F64", "F32", "F16", "BF16")
BLOCK = 16
"""Inputs that share a scale in NVFP4."""

STACK = re.compile(r"(?P<block>.*\.experts)\.(?P<name>up_proj|down_proj)")
SCALES = (".weight_scale", ".weight_scale_2", ".input_scale")
CACHE_SCALE = re.compile(r"(layers|mtp\.layers)\.\d+\.mixer\.((k_proj\.)?k|(v_proj\.)?v)_scale")


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor as its file's header describes it; `row` of a stack of experts, if it is one, and then its shape."""

    file: str
    key: str
    dtype: str
    shape: Shape
    row: int | None = None


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor the layout asks for: where its numbers are, and how to read them."""

    stored: Stored
    format: Format | None = None
    scales: tuple[Stored, ...] = ()


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checkpoint holds for an engine, by the canonical names of the layout's sources."""

    layout: tuple[Packed, ...]
    weights: Mapping[str, Weight]

    @property
    def mtp(self) -> bool:
        """Whether it has the multi-token-prediction module that its config.json describes."""
        return any(packed.name.startswith(MTP) for packed in self.layout)

    @property
    def parameters(self) -> int:
        return sum(packed.elements for packed in self.layout)

    @property
    def quantised_parameters(self) -> dict[str, int]:
        """How many parameters are stored in each quantised format."""
        found: dict[str, int] = {}
        for source in sources(self.layout).values():
            if stored_as := self.weights[source.name].format:
                found[stored_as] = found.get(stored_as, 0) + math.prod(source.shape)
        return found


def verify(config: HybridConfig, quantisation: Quantisation, headers: Iterable[Stored]) -> Contents:
    """Match every tensor to one the config asks for.

    Raises WeightsInvalid, naming the tensor and its file, for one that is missing, there twice, unexplained, of another
    shape, or stored in another format than the quantisation says. Scales of activations and of the KV cache are
    accepted and left: engines quantise neither. So are `mtp.*` tensors that config.json does not describe.
    """
    found = _by_name(headers, config.experts)
    tensors = layout(config)
    if not any(name.startswith(MTP) and name in found for name in sources(tensors)):
        tensors = without_mtp(tensors)
    wanted = sources(tensors)
    for name in sorted(found.keys() - wanted.keys()):
        _explain(found[name], name, wanted)
    return Contents(tensors, {name: _weight(source, quantisation, found) for name, source in wanted.items()})


def _by_name(headers: Iterable[Stored], experts: int) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    for header in headers:
        for name, stored in _unstacked(header, experts):
            if other := found.get(name):
                places = f"in {other.file} as {other.key} and in {stored.file} as {stored.key}"
                raise WeightsInvalid(f"tensor {name} is {places}: keep one")
            found[name] = stored
    return found


def _unstacked(header: Stored, experts: int) -> Iterator[tuple[str, Stored]]:
    """The canonical name; of a stack of experts, each expert's."""
    name = canonical(header.key)
    stack = STACK.fullmatch(name)
    if not (stack and header.shape[:1] == (experts,)):
        yield name, header
        return
    for row in range(experts):
        yield f"{stack['block']}.{row}.{stack['name']}.weight", replace(header, shape=header.shape[1:], row=row)


def _explain(stored: Stored, name: str, wanted: Mapping[str, Source]) -> None:
    """Raise WeightsInvalid for a tensor that is no weight and nothing that may lie beside one."""
    if CACHE_SCALE.fullmatch(name) or name.startswith(MTP):
        return
    module = next((name.removesuffix(scale) for scale in SCALES if name.endswith(scale)), name)
    if not (source := wanted.get(f"{module}.weight")) or not source.linear:
        raise WeightsInvalid(f"tensor {name} in {stored.file} is nothing that config.json explains: remove it")


def _weight(source: Source, quantisation: Quantisation, found: Mapping[str, Stored]) -> Weight:
    module = source.name.removesuffix(".weight")
    asked = quantisation.format_of(module) if source.linear else None
    stored = _find(source.name, source.shape, found)
    if _format(stored, source.name) != asked:
        says = f"quantises it as {asked}" if asked else "leaves it in floating point"
        raise WeightsInvalid(
            f"tensor {source.name} in {stored.file} is {stored.dtype}, but the checkpoint's quantisation config "
            f"{says}: files of two checkpoints are mixed, copy it again"
        )
    if asked is None:
        _refuse_scales(module, stored, found)
    (_, shape, _), *scales = _pieces(source, asked)
    _check(source.name, stored, shape, (stored.dtype,))
    return Weight(stored, asked, tuple(_scale(module + suffix, shape, kinds, found) for suffix, shape, kinds in scales))


def _pieces(source: Source, stored_as: Format | None) -> list[tuple[str, Shape, tuple[str, ...]]]:
    """(suffix, shape, types) of the tensors that make up a weight of this format, its own numbers first."""
    if stored_as is None:
        return [(".weight", source.shape, FLOATS)]
    if stored_as == "FP8":
        return [(".weight", source.shape, ("F8_E4M3",)), (".weight_scale", (), ("F32",))]
    outputs, inputs = source.shape
    if inputs % BLOCK:
        raise WeightsInvalid(f"tensor {source.name} has {inputs} inputs: NVFP4 stores blocks of {BLOCK}")
    return [
        (".weight", (outputs, inputs // 2), ("U8",)),
        (".weight_scale", (outputs, inputs // BLOCK), ("F8_E4M3",)),
        (".weight_scale_2", (), ("F32",)),
    ]


def _format(stored: Stored, name: str) -> Format | None:
    """The format that a weight's type means."""
    match stored.dtype:
        case "F8_E4M3":
            return "FP8"
        case "U8":
            return "NVFP4"
        case dtype if dtype in FLOATS:
            return None
        case dtype:
            known = f"{', '.join(FLOATS)}, FP8 as F8_E4M3 and NVFP4 as U8"
            raise WeightsInvalid(f"tensor {name} in {stored.file} is {dtype}: weights may be {known}")


def _find(name: str, shape: Shape, found: Mapping[str, Stored]) -> Stored:
    if name not in found:
        raise WeightsInvalid(f"tensor {name} is missing: config.json asks for it, with shape {list(shape)}")
    return found[name]


def _scale(name: str, shape: Shape, dtypes: tuple[str, ...], found: Mapping[str, Stored]) -> Stored:
    stored = _find(name, shape, found)
    # One number is written both as a scalar and as a vector of one.
    single = shape == () and stored.shape == (1,)
    _check(name, stored, (1,) if single else shape, dtypes)
    return stored


def _check(name: str, stored: Stored, shape: Shape, dtypes: tuple[str, ...]) -> None:
    if stored.shape != shape:
        raise WeightsInvalid(
            f"tensor {name} in {stored.file} has shape {list(stored.shape)}, config.json asks for {list(shape)}: "
            "they are not of the same model"
        )
    if stored.dtype not in dtypes:
        raise WeightsInvalid(
            f"tensor {name} in {stored.file} is {stored.dtype}, not {' or '.join(dtypes)}: copy it again"
        )


def _refuse_scales(module: str, weight: Stored, found: Mapping[str, Stored]) -> None:
    """A scale beside numbers that need none means that one of the two is of another checkpoint."""
    if stray := next((module + scale for scale in SCALES if module + scale in found), None):
        raise WeightsInvalid(
            f"tensor {stray} in {found[stray].file} scales a weight that is {weight.dtype}, which needs no scale: "
            "files of two checkpoints are mixed, copy it again"
        )
