"""Stack the blocks: h ← h + mixer(norm(h)), then the final norm and the head."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from nemotron_api.hybrid_config import ATTENTION, MAMBA, MLP, MOE, HybridConfig
from nemotron_runtime import attention, experts, mamba
from nemotron_runtime.arithmetic import FAST, Arithmetic
from nemotron_runtime.batch import Batch
from nemotron_runtime.memory import Memory
from nemotron_runtime.weights import Linear, Norm, Weights

Mixer = Callable[[Tensor, Batch, Memory], Tensor]


@dataclass(frozen=True, slots=True)
class Block:
    norm: Norm
    mixer: Mixer


@dataclass(frozen=True, slots=True)
class Model:
    """The whole network; it owns weights, never memory."""

    embeddings: Tensor
    blocks: tuple[Block, ...]
    norm: Norm
    """(t, d) → (t, d), what the head and a draft module take."""
    head: Linear

    def __call__(self, batch: Batch, memory: Memory) -> Tensor:
        """(t, d) after the last block. Advances the memory of every sequence in the batch."""
        h, delta = F.embedding(batch.tokens, self.embeddings), None
        for block in self.blocks:
            h, normed = block.norm.after(h, delta)
            delta = block.mixer(normed, batch, memory)
        return h if delta is None else h + delta

    def logits(self, normed: Tensor) -> Tensor:
        """(t, d) → FP32 (t, vocabulary)."""
        return self.head(normed).float()


def build(config: HybridConfig, tensors: Mapping[str, Tensor], arithmetic: Arithmetic = FAST) -> Model:
    """The network of a packed engine's tensors."""
    weights = Weights(tensors, arithmetic.linear)
    return Model(
        embeddings=weights.tensor("embeddings.weight"),
        blocks=tuple(_block(config, arithmetic, index, weights) for index in range(len(config.pattern))),
        norm=Norm(weights.tensor("norm_f.weight"), config.norm_eps, arithmetic.mean, arithmetic.is_fused),
        head=weights.linear("lm_head"),
    )


def _block(config: HybridConfig, arithmetic: Arithmetic, index: int, weights: Weights) -> Block:
    here = weights.under(f"layers.{index}")
    norm = Norm(here.tensor("norm.weight"), config.norm_eps, arithmetic.mean, arithmetic.is_fused)
    return Block(norm, _mixer(config, arithmetic, index, here.under("mixer")))


def _mixer(config: HybridConfig, arithmetic: Arithmetic, index: int, weights: Weights) -> Mixer:
    kind = config.pattern[index]
    place = config.pattern[:index].count(kind)
    builders: dict[str, Callable[[], Mixer]] = {
        MAMBA: lambda: mamba.build(config, arithmetic, place, weights),
        ATTENTION: lambda: attention.build(config, arithmetic, place, weights),
        MOE: lambda: experts.build_experts(config, arithmetic, weights),
        MLP: lambda: experts.build_mlp(weights),
    }
    return builders[kind]()
