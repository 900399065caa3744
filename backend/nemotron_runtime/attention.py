"""An attention block's mixer: grouped queries, causal, without positional encoding."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig
from nemotron_runtime.arithmetic import Arithmetic
from nemotron_runtime.batch import Batch
from nemotron_runtime.memory import Memory
from nemotron_runtime.weights import Linear, Weights


@dataclass(frozen=True, slots=True)
class Attention:
    """One product for queries, keys and values; keys and values to their pages; attention; o_proj."""

    config: HybridConfig
    arithmetic: Arithmetic
    layer: int
    """Its place among the attention blocks, which finds its pages."""
    qkv_proj: Linear
    o_proj: Linear

    def __call__(self, x: Tensor, batch: Batch, memory: Memory) -> Tensor:
        """x: (t, d) → (t, d). Writes the batch's keys and values."""
        queries = self.remember(x, batch, memory)
        k, v = memory.keys[self.layer], memory.values[self.layer]
        attend_window, attend_span = self.arithmetic.attend_window, self.arithmetic.attend_span
        outputs = [attend_window(queries[window.rows], k, v, window) for window in batch.windows]
        outputs += [attend_span(queries[span.rows], k, v, span) for span in batch.spans]
        together = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return self.o_proj(together.flatten(1))

    def remember(self, x: Tensor, batch: Batch, memory: Memory) -> Tensor:
        """x: (t, d) → queries (t, heads, head dim). Writes the batch's keys and values, and attends to nothing."""
        config = self.config
        heads = self.qkv_proj(x).view(x.shape[0], -1, config.head_dim)
        queries, keys, values = torch.split(heads, [config.attention_heads, config.kv_heads, config.kv_heads], dim=1)
        memory.write_kv(self.layer, batch.cells, keys, values)
        return queries


def build(config: HybridConfig, arithmetic: Arithmetic, layer: int, weights: Weights) -> Attention:
    return Attention(config, arithmetic, layer, weights.linear("qkv_proj"), weights.linear("o_proj"))
