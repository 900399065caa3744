"""List the tensors of a packed engine, their shapes, and the checkpoint tensors each is made of."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from nemotron_api.hybrid_config import ATTENTION, MAMBA, MLP, MOE, HybridConfig

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor of the checkpoint, its name without the `backbone.` or `model.` prefix."""

    name: str
    shape: Shape


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


def layout(config: HybridConfig) -> tuple[Packed, ...]:
    """Every tensor of the engine, in the order of the file. Multi-token-prediction weights have no place in it yet."""
    hidden = config.hidden_size
    tensors = [_same("embeddings.weight", (config.vocab_size, hidden))]
    for index, kind in enumerate(config.pattern):
        tensors.append(_same(f"layers.{index}.norm.weight", (hidden,), wide=True))
        tensors += _MIXERS[kind](config, f"layers.{index}.mixer.")
    tensors.append(_same("norm_f.weight", (hidden,), wide=True))
    tensors.append(_same("lm_head.weight", (config.vocab_size, hidden)))
    return tuple(tensors)


def _mamba(config: HybridConfig, prefix: str) -> Iterator[Packed]:
    conv, taps = config.conv_dim, config.conv_kernel
    yield from _linear(prefix + "in_proj", config.projection_dim, config.hidden_size, bias=config.mamba_bias)
    weight = Source(prefix + "conv1d.weight", (conv, 1, taps))
    yield Packed(prefix + "conv1d.weight", (conv, taps), (weight,), wide=True)
    if config.conv_bias:
        yield _same(prefix + "conv1d.bias", (conv,), wide=True)
    for name in ("A_log", "D", "dt_bias"):
        yield _same(prefix + name, (config.mamba_heads,), wide=True)
    yield _same(prefix + "norm.weight", (config.d_inner,), wide=True)
    yield from _linear(prefix + "out_proj", config.hidden_size, config.d_inner, bias=config.mamba_bias)


def _attention(config: HybridConfig, prefix: str) -> Iterator[Packed]:
    queries, keys = config.attention_heads * config.head_dim, config.kv_heads * config.head_dim
    rows = {"q_proj": queries, "k_proj": keys, "v_proj": keys}
    shape = (sum(rows.values()), config.hidden_size)
    weights = tuple(Source(f"{prefix}{name}.weight", (count, config.hidden_size)) for name, count in rows.items())
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
        sources = tuple(Source(f"{prefix}experts.{e}.{name}.weight", shape) for e in range(config.experts))
        yield Packed(f"{prefix}experts.{name}", (config.experts, *shape), sources)
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
    yield _same(name + ".weight", (outputs, inputs))
    if bias:
        yield _same(name + ".bias", (outputs,))


def _same(name: str, shape: Shape, *, wide: bool = False) -> Packed:
    return Packed(name, shape, (Source(name, shape),), wide)


_MIXERS = {MAMBA: _mamba, ATTENTION: _attention, MOE: _moe, MLP: _mlp}
