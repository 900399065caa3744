"""Name the tensors of a network and of its memory, as the library takes them.

Letters as in nemotron_kernels; r places of a ring, k taps, s tokens of a page, e experts, v words. "Model's type" is
FP32 or BF16; everything is contiguous.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Linear:
    """weight: (outputs, inputs), bias: (outputs) or none, both in the model's type."""

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Mamba:
    norm: Tensor
    """(d) FP32."""
    in_proj: Linear
    conv_weight: Tensor
    """(c, k) FP32."""
    conv_bias: Tensor | None
    """(c) FP32."""
    A: Tensor
    """(h) FP32, as D and dt_bias."""
    D: Tensor
    dt_bias: Tensor
    gate_norm: Tensor
    """(h · p) FP32."""
    out_proj: Linear
    states: tuple[Tensor, ...]
    """(slot, h, p, n) FP32, FP16 or INT8, the latter with scales (slot, h, ⌈p·n/128⌉) FP32."""
    before: Tensor
    """(slot, h) FP64."""
    taps: Tensor
    """(slot, r, c) in the model's type, as xs (slot, h, r, p) and Bs (slot, g, r, n)."""
    xs: Tensor
    Bs: Tensor
    sums: Tensor
    """(slot, h, r) FP64, as keys."""
    keys: Tensor


@dataclass(frozen=True, slots=True)
class Attention:
    norm: Tensor
    qkv_proj: Linear
    o_proj: Linear
    keys: Tensor
    """(page, s, kv head, head dim) in the model's type or E4M3, as values."""
    values: Tensor


@dataclass(frozen=True, slots=True)
class Experts:
    norm: Tensor
    gate: Tensor
    """(e, d) FP32."""
    correction: Tensor
    """(e) FP32."""
    up: Tensor
    """(e, inner, width) in the model's type."""
    down: Tensor
    """(e, width, inner)."""
    to_latent: Linear | None
    from_latent: Linear | None
    shared_up: Linear | None
    shared_down: Linear | None


@dataclass(frozen=True, slots=True)
class Mlp:
    norm: Tensor
    up: Linear
    down: Linear


Block = Mamba | Attention | Experts | Mlp


@dataclass(frozen=True, slots=True)
class Routing:
    """Numbers of the router that no tensor's shape tells."""

    chosen: int = 0
    groups: int = 1
    top_groups: int = 1
    scale: float = 1.0
    normalize: bool = True


@dataclass(frozen=True, slots=True)
class Network:
    embeddings: Tensor
    """(v, d) in the model's type."""
    blocks: tuple[Block, ...]
    norm: Tensor
    head: Linear
    eps: float
    routing: Routing
    query_heads: int
    block_tokens: int
    """By which anchors move."""
