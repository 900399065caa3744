"""Count what a model's shape makes a step read and compute: the least any engine can do."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.job import Length
from nemotron_api.hybrid_config import ATTENTION, FLOAT32_BYTES, MAMBA, HybridConfig
from nemotron_api.layout import Packed, layout, without_mtp


@dataclass(frozen=True, slots=True)
class Work:
    """Bytes that have to come from memory, and floating-point operations (a product and its sum are two)."""

    bytes: float
    flops: float

    def __add__(self, other: "Work") -> "Work":
        return Work(self.bytes + other.bytes, self.flops + other.flops)


def decode_step(config: HybridConfig, sequences: int, context: float, element_bytes: int) -> Work:
    """One token of each of `sequences` that have `context` tokens each.

    Weights are read once, routed experts as many as uniform routing hits; states are read and written, keys and
    values read.
    """
    kv = sequences * context * config.kv_bytes_per_token(element_bytes)
    states = 2 * sequences * config.slot_bytes(element_bytes)
    flops = sequences * (_scan_flops(config) + context * _attention_flops(config))
    return _weights(config, sequences, sequences, element_bytes) + Work(kv + states, flops)


def prompt_flops(config: HybridConfig, lengths: Sequence[Length]) -> float:
    """Computing the prompts, the head only behind their last tokens; the recurrence token by token."""
    tokens = sum(length.prompt for length in lengths)
    attended = sum(length.prompt * (length.prompt + 1) / 2 for length in lengths)
    weights = _weights(config, tokens, len(lengths), FLOAT32_BYTES).flops
    return weights + tokens * _scan_flops(config) + attended * _attention_flops(config)


def distinct_experts(config: HybridConfig, tokens: int) -> float:
    """Experts that this many tokens are expected to hit when each chooses evenly."""
    if not config.experts:
        return 0.0
    return config.experts * (1 - (1 - config.experts_per_token / config.experts) ** tokens)


def _weights(config: HybridConfig, tokens: int, yields: int, element_bytes: int) -> Work:
    """Reading every weight that `tokens` tokens use, `yields` of which get logits, and multiplying by them."""
    return sum(
        (_of_tensor(config, packed, tokens, yields, element_bytes) for packed in without_mtp(layout(config))),
        Work(0, 0),
    )


def _of_tensor(config: HybridConfig, packed: Packed, tokens: int, yields: int, element_bytes: int) -> Work:
    size = FLOAT32_BYTES if packed.wide else element_bytes
    if packed.name.startswith("embeddings"):
        return Work(tokens * packed.shape[1] * size, 0)
    if ".mixer.experts." in packed.name:
        expert = math.prod(packed.shape[1:])
        read = distinct_experts(config, tokens) * expert * size
        return Work(read, 2 * tokens * config.experts_per_token * expert)
    multiplies = yields if packed.name.startswith("lm_head") else tokens
    return Work(packed.elements * size, 2 * multiplies * packed.elements if len(packed.shape) > 1 else 0)


def _scan_flops(config: HybridConfig) -> int:
    """Decay, outer product and read-out of one token's states."""
    return config.blocks(MAMBA) * 6 * config.d_inner * config.state_size


def _attention_flops(config: HybridConfig) -> int:
    """Scores and sums of one query over one token of context."""
    return config.blocks(ATTENTION) * 4 * config.attention_heads * config.head_dim
