"""An attention block's mixer: grouped queries, causal, without positional encoding."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig
from nemotron_kernels.paged_attention import attend_one_each, attend_span
from nemotron_runtime.batch import Batch
from nemotron_runtime.memory import Memory
from nemotron_runtime.weights import Linear, Weights


@dataclass(frozen=True, slots=True)
class Attention:
    """One product for queries, keys and values; keys and values to their pages; attention; o_proj."""

    config: HybridConfig
    layer: int
    """Its place among the attention blocks, which finds its pages."""
    qkv_proj: Linear
    o_proj: Linear

    def __call__(self, x: Tensor, batch: Batch, memory: Memory) -> Tensor:
        """x: (t, d) → (t, d). Writes the batch's keys and values."""
        config = self.config
        heads = self.qkv_proj(x).view(x.shape[0], -1, config.head_dim)
        queries, keys, values = torch.split(heads, [config.attention_heads, config.kv_heads, config.kv_heads], dim=1)
        memory.write_kv(self.layer, batch.cells, keys, values)
        k, v = memory.keys[self.layer], memory.values[self.layer]
        outputs = []
        if singles := batch.singles:
            outputs.append(attend_one_each(queries[: singles.count], k, v, singles.tables, singles.lengths))
        outputs += [attend_span(queries[span.rows], k, v, span.table, span.start) for span in batch.spans]
        return self.o_proj(torch.cat(outputs).flatten(1))


def build(config: HybridConfig, layer: int, weights: Weights) -> Attention:
    return Attention(config, layer, weights.linear("qkv_proj"), weights.linear("o_proj"))
