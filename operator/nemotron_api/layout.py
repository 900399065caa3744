"""List the tensors of a packed engine, their shapes, and the checkpoint tensors each is made of: one table for all.

Names of the checkpoint as `models/nemotron_h/modeling_nemotron_h.py` of `transformers` has them, those of the
multi-token-prediction module as `nemotron_h_mtp.py` of vLLM reads them. Standard library only.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from nemotron_api.hybrid_config import ATTENTION, MAMBA, MLP, MOE, HybridConfig

Shape = tuple[int, ...]

PREFIX = re.compile(r"^(backbone|model)\.")
"""What checkpoints put before most names: NVIDIA's remote code `backbone.`, `transformers` `model.`."""

MTP = "mtp."
"""How every name of the multi-token-prediction module begins, in checkpoints and in engines."""


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor of the checkpoint, its name without the `backbone.` or `model.` prefix."""

    name: str
    shape: Shape
    linear: bool = False
    """The weight of a matrix product: what quantised checkpoints quantise."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A tensor of the engine: its sources one after the other, row by row, in `shape`."""

    name: str
    shape: Shape
    sources: tuple[Source, ...]
    wide: bool = False
    """Stays FP32 in every engine, because the arithmetic on it is FP32."""

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


Mixer = Callable[[HybridConfig, str], Iterator[Packed]]


def layout(config: HybridConfig) -> tuple[Packed, ...]:
    """Every tensor of the engine, in the order of the file: the backbone, then the module that drafts, if any."""
    hidden = config.hidden_size
    tensors = [_same("embeddings.weight", (config.vocab_size, hidden))]
    for index, kind in enumerate(config.pattern):
        tensors += _block(config, kind, f"layers.{index}.")
    tensors.append(_norm("norm_f.weight", hidden))
    tensors.append(_same("lm_head.weight", (config.vocab_size, hidden), linear=True))
    return (*tensors, *_mtp(config))


def without_mtp(tensors: Iterable[Packed]) -> tuple[Packed, ...]:
    """The same layout for weights without the multi-token-prediction module."""
    return tuple(packed for packed in tensors if not packed.name.startswith(MTP))


def sources(tensors: Iterable[Packed]) -> dict[str, Source]:
    """What a checkpoint must hold, by canonical name."""
    return {source.name: source for packed in tensors for source in packed.sources}


def canonical(name: str) -> str:
    """A checkpoint's name as the table has it."""
    return PREFIX.sub("", name)


def _block(config: HybridConfig, kind: str, prefix: str) -> Iterator[Packed]:
    yield _norm(prefix + "norm.weight", config.hidden_size)
    yield from MIXERS[kind](config, prefix + "mixer.")


def _mtp(config: HybridConfig) -> Iterator[Packed]:
    """Blocks `mtp.{i}.` as `layers.{i}.`; around them two norms, the projection, a final norm.

    Checkpoints hang what comes before the blocks on the first one, and the final norm on the last.
    """
    hidden, last = config.hidden_size, len(config.mtp_pattern) - 1
    if not config.mtp_pattern:
        return
    first = f"{MTP}layers.0."
    yield _from(first + "enorm.weight", _norm(MTP + "enorm.weight", hidden))
    yield _from(first + "hnorm.weight", _norm(MTP + "hnorm.weight", hidden))
    yield _from(first + "eh_proj.weight", _same(MTP + "eh_proj.weight", (hidden, 2 * hidden), linear=True))
    for index, kind in enumerate(config.mtp_pattern):
        for packed in _block(config, kind, f"{MTP}layers.{index}."):
            yield replace(packed, name=packed.name.replace(f"{MTP}layers.", MTP, 1))
    yield _from(f"{MTP}layers.{last}.final_layernorm.weight", _norm(MTP + "final_norm.weight", hidden))


def _mamba(config: HybridConfig, prefix: str) -> Iterator[Packed]:
    conv, taps = config.conv_dim, config.conv_kernel
    yield from _linear(prefix + "in_proj", config.projection_dim, config.hidden_size, bias=config.mamba_bias)
    weight = Source(prefix + "conv1d.weight", (conv, 1, taps))
    yield Packed(prefix + "conv1d.weight", (conv, taps), (weight,), wide=True)
    if config.conv_bias:
        yield _same(prefix + "conv1d.bias", (conv,), wide=True)
    for name in ("A_log", "D", "dt_bias"):
        yield _same(prefix + name, (config.mamba_heads,), wide=True)
    yield _norm(prefix + "norm.weight", config.d_inner)
    yield from _linear(prefix + "out_proj", config.hidden_size, config.d_inner, bias=config.mamba_bias)


def _attention(config: HybridConfig, prefix: str) -> Iterator[Packed]:
    queries, keys = config.attention_heads * config.head_dim, config.kv_heads * config.head_dim
    rows = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
    shape = (sum(rows.values()), config.hidden_size)
    weights = tuple(Source(f"{prefix}{name}.weight", (count, shape[1]), linear=True) for name, count in rows.items())
    yield Packed(prefix + "qkv_proj.weight", shape, weights)
    if config.attention_bias:
        biases = tuple(Source(f"{prefix}{name}.bias", (count,)) for name, count in rows.items())
        yield Packed(prefix + "qkv_proj.bias", shape[:1], biases)
    yield from _linear(prefix + "o_proj", config.hidden_size, queries, bias=config.attention_bias)


def _moe(config: HybridConfig, prefix: str) -> Iterator[Packed]:
    hidden, width, inner = config.hidden_size, config.expert_width, config.expert_size
    yield _same(prefix + "gate.weight", (config.experts, hidden), wide=True)
    yield _same(prefix + "gate.e_score_correction_bias", (config.experts,), wide=True)
    for name, shape in (("up_proj", (inner, width)), ("down_proj", (width, inner))):
        experts = (f"{prefix}experts.{expert}.{name}.weight" for expert in range(config.experts))
        rows = tuple(Source(expert, shape, linear=True) for expert in experts)
        yield Packed(f"{prefix}experts.{name}", (config.experts, *shape), rows)
    if config.latent_size:
        yield from _linear(prefix + "fc1_latent_proj", width, hidden, bias=config.mlp_bias)
        yield from _linear(prefix + "fc2_latent_proj", hidden, width, bias=config.mlp_bias)
    if config.shared_expert_size:
        yield from _up_down(prefix + "shared_experts.", config, config.shared_expert_size)


def _mlp(config: HybridConfig, prefix: str) -> Iterator[Packed]:
    yield from _up_down(prefix, config, config.mlp_size)


def _up_down(prefix: str, config: HybridConfig, inner: int) -> Iterator[Packed]:
    yield from _linear(prefix + "up_proj", inner, config.hidden_size, bias=config.mlp_bias)
    yield from _linear(prefix + "down_proj", config.hidden_size, inner, bias=config.mlp_bias)


def _linear(name: str, outputs: int, inputs: int, *, bias: bool) -> Iterator[Packed]:
    yield _same(name + ".weight", (outputs, inputs), linear=True)
    if bias:
        yield _same(name + ".bias", (outputs,))


def _norm(name: str, size: int) -> Packed:
    return _same(name, (size,), wide=True)


def _same(name: str, shape: Shape, *, wide: bool = False, linear: bool = False) -> Packed:
    return Packed(name, shape, (Source(name, shape, linear),), wide)


def _from(source: str, packed: Packed) -> Packed:
    """The tensor, under another name in the checkpoint."""
    return replace(packed, sources=tuple(replace(each, name=source) for each in packed.sources))


MIXERS: Mapping[str, Mixer] = {MAMBA: _mamba, ATTENTION: _attention, MOE: _moe, MLP: _mlp}
