"""Compute what a model takes of a GPU's memory, and how many sequences the rest holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nemotron_api.formats import WeightFormat, weight_bytes
from nemotron_api.gpus import Gpu
from nemotron_api.hybrid_config import ATTENTION, MAMBA, MLP, MOE, HybridConfig

StateFormat = Literal["FP32", "FP16", "INT8"]
KvFormat = Literal["BF16", "FP8"]

STATE_BYTES: Mapping[StateFormat, float] = {"FP32": 4.0, "FP16": 2.0, "INT8": 1 + 4 / 128}
"""Of an element of the recurrent state; INT8 has an FP32 scale for every 128."""
KV_BYTES: Mapping[KvFormat, int] = {"BF16": 2, "FP8": 1}
ACTIVATION_BYTES = 2

USABLE = 0.92
"""The part of a GPU's memory that weights and pools may fill: libraries and fragments take the rest."""

STEP_TOKENS = 8192
"""Tokens of one step that room is kept for."""

RING_TOKENS = 48
"""Places of such a ring: `nemotron_runtime.tails.RING`."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is asked of a model's memory."""

    weights: WeightFormat
    gpus: int = 1
    """How many share every layer."""
    state: StateFormat = "FP32"
    kv: KvFormat = "BF16"
    ring: bool = False
    """Whether our own runtime serves, which keeps a ring of inputs beside each state: see docs/decisions/0008."""
    drafts: bool = False
    """Whether the model's own draft module is used: its attention has keys and values, too."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on each GPU."""

    weights: int
    slot: int
    """Of one sequence, however long it is."""
    kv_token: int
    workspace: int

    def of_sequence(self, tokens: int) -> int:
        return self.slot + tokens * self.kv_token

    def room(self, gpu: Gpu) -> int:
        """What is left for sequences; negative where the weights do not fit."""
        return int(USABLE * gpu.memory_bytes) - self.weights - self.workspace

    def sequences(self, gpu: Gpu, tokens: int) -> int:
        """Sequences of so many tokens that fit at once."""
        return max(0, self.room(gpu) // self.of_sequence(tokens))

    def longest(self, gpu: Gpu) -> int:
        """Tokens of the longest sequence that fits alone; without attention there is no such limit but memory's."""
        left = self.room(gpu) - self.slot
        return max(0, left // self.kv_token) if self.kv_token else 0


def memory(config: HybridConfig, setting: Setting) -> Memory:
    """What each GPU holds.

    Weights and state as published recipes have them. The workspace is an estimate: the activations of a step of
    STEP_TOKENS tokens at its widest, and the logits of 256 sequences.
    """
    return Memory(
        weights=weight_bytes(config, setting.weights, setting.gpus),
        slot=_slot(config, setting),
        kv_token=_kv_token(config, setting),
        workspace=_workspace(config, setting.gpus),
    )


def problem(config: HybridConfig, gpus: int) -> str:
    """Why so many GPUs cannot share the model's layers; empty if they can."""
    parts = (
        (MAMBA, "Mamba heads", config.mamba_heads),
        (MAMBA, "Mamba groups", config.groups),
        (ATTENTION, "attention heads", config.attention_heads),
    )
    for kind, what, count in parts:
        if kind in config.pattern and count % gpus:
            return f"{count} {what} are not divisible among {gpus} GPUs"
    return ""


def _slot(config: HybridConfig, setting: Setting) -> int:
    states = config.d_inner * config.state_size * STATE_BYTES[setting.state]
    inputs = _ring(config) if setting.ring else (config.conv_kernel - 1) * config.conv_dim
    beside = _ring_sums(config) if setting.ring else 0
    return round(config.blocks(MAMBA) * (states + inputs * ACTIVATION_BYTES + beside) / setting.gpus)


def _ring(config: HybridConfig) -> int:
    """Elements of a layer's ring: what went into the convolution, x, and B."""
    return RING_TOKENS * (config.conv_dim + config.d_inner + config.groups * config.state_size)


def _ring_sums(config: HybridConfig) -> int:
    """Bytes of a layer's sums of log decays, in FP64: two for each place and head, and the anchor's."""
    return config.mamba_heads * (2 * RING_TOKENS + 1) * 8


def _kv_token(config: HybridConfig, setting: Setting) -> int:
    layers = config.blocks(ATTENTION) + (config.mtp_pattern.count(ATTENTION) if setting.drafts else 0)
    heads = -(-config.kv_heads // setting.gpus)
    return layers * 2 * heads * config.head_dim * KV_BYTES[setting.kv]


def _workspace(config: HybridConfig, gpus: int) -> int:
    widths = {
        MAMBA: config.projection_dim,
        ATTENTION: (config.attention_heads + 2 * config.kv_heads) * config.head_dim,
        MOE: config.experts_per_token * (config.expert_width + config.expert_size) + config.shared_expert_size,
        MLP: config.mlp_size,
    }
    widest = max(widths[kind] for kind in config.pattern)
    logits = 256 * config.vocab_size * 4
    return (STEP_TOKENS * ACTIVATION_BYTES * (3 * config.hidden_size * gpus + widest) + logits) // gpus
