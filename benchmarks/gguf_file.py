"""Write a checkpoint as the GGUF file that llama.cpp reads, in one element type.

Runs in llama.cpp's own environment: `gguf`, numpy and the standard library. Names and shapes are those that
llama.cpp's `src/models/nemotron-h.cpp` asks for.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGMLQuantizationType, GGUFWriter

from nemotron_api.hybrid_config import ATTENTION, MAMBA, MOE, HybridConfig, read_config

Array = Any
"""A numpy array; numpy is another one here than in the project's own environment."""

ELEMENTS = {"FP32": GGMLQuantizationType.F32, "BF16": GGMLQuantizationType.BF16}

CONTEXT_TOKENS = 1 << 20

TOP = {
    "embeddings.weight": "token_embd.weight",
    "norm_f.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}

BLOCK = {
    "norm.weight": "attn_norm.weight",
    "mixer.in_proj.weight": "ssm_in.weight",
    "mixer.conv1d.weight": "ssm_conv1d.weight",
    "mixer.conv1d.bias": "ssm_conv1d.bias",
    "mixer.dt_bias": "ssm_dt.bias",
    "mixer.A_log": "ssm_a",
    "mixer.D": "ssm_d",
    "mixer.norm.weight": "ssm_norm.weight",
    "mixer.out_proj.weight": "ssm_out.weight",
    "mixer.q_proj.weight": "attn_q.weight",
    "mixer.k_proj.weight": "attn_k.weight",
    "mixer.v_proj.weight": "attn_v.weight",
    "mixer.o_proj.weight": "attn_output.weight",
    "mixer.gate.weight": "ffn_gate_inp.weight",
    "mixer.gate.e_score_correction_bias": "exp_probs_b.bias",
    "mixer.fc1_latent_proj.weight": "ffn_latent_down.weight",
    "mixer.fc2_latent_proj.weight": "ffn_latent_up.weight",
    "mixer.shared_experts.up_proj.weight": "ffn_up_shexp.weight",
    "mixer.shared_experts.down_proj.weight": "ffn_down_shexp.weight",
}

EXPERTS = {"up_proj": "ffn_up_exps.weight", "down_proj": "ffn_down_exps.weight"}

WIDE = ("ssm_conv1d", "ssm_a", "ssm_d", "ssm_norm", "ffn_gate_inp")
"""Matrices that stay FP32 in every file, as llama.cpp's own converter leaves them; all vectors do, too."""


class Checkpoint:
    """The tensors of an unsharded safetensors file, as FP32 arrays, without a prefix in their names."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(size))
        self._data = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + size)
        self._entries = {name.removeprefix("backbone."): entry for name, entry in header.items() if name[:2] != "__"}

    def __getitem__(self, name: str) -> Array:
        entry = self._entries[name]
        start, stop = entry["data_offsets"]
        raw = self._data[start:stop]
        if entry["dtype"] == "BF16":
            raw = (raw.view(np.uint16).astype(np.uint32) << 16).view(np.uint8)
        return raw.view(np.float32).reshape(entry["shape"])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)


def write_gguf(checkpoint: Path, path: Path, dtype: str) -> None:
    """Raises KeyError for a tensor that llama.cpp has no name for."""
    config = read_config(checkpoint)
    writer = GGUFWriter(path, MODEL_ARCH_NAMES[MODEL_ARCH.NEMOTRON_H_MOE])
    _write_shape(writer, config)
    for name, values in tensors(config, Checkpoint(checkpoint / "model.safetensors")):
        narrow = dtype == "BF16" and values.ndim > 1 and not name.split(".", 2)[-1].startswith(WIDE)
        _add(writer, name, values, ELEMENTS["BF16" if narrow else "FP32"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(config: HybridConfig, checkpoint: Checkpoint) -> Iterator[tuple[str, Array]]:
    """Every tensor under llama.cpp's name; what drafts tokens stays behind."""
    for name in checkpoint:
        if name in TOP:
            yield TOP[name], checkpoint[name]
        elif name.startswith("layers.") and ".experts." not in name:
            _, layer, part = name.split(".", 2)
            yield f"blk.{layer}.{BLOCK[part]}", _reshaped(config, part, checkpoint[name])
    for block in (index for index, kind in enumerate(config.pattern) if kind == MOE):
        for ours, theirs in EXPERTS.items():
            names = (f"layers.{block}.mixer.experts.{expert}.{ours}.weight" for expert in range(config.experts))
            yield f"blk.{block}.{theirs}", np.stack([checkpoint[name] for name in names])


def _reshaped(config: HybridConfig, part: str, values: Array) -> Array:
    """A as it is used, not its logarithm, and the shapes of a Mamba block."""
    shapes: Mapping[str, Array] = {
        "mixer.A_log": lambda: -np.exp(values).reshape(-1, 1),
        "mixer.D": lambda: values.reshape(-1, 1),
        "mixer.conv1d.weight": lambda: values.reshape(config.conv_dim, -1),
        "mixer.norm.weight": lambda: values.reshape(config.groups, -1),
    }
    return shapes[part]() if part in shapes else values


def _add(writer: GGUFWriter, name: str, values: Array, element: GGMLQuantizationType) -> None:
    if element is GGMLQuantizationType.BF16:
        # The checkpoint is BF16: the upper half of each FP32 is all of it.
        halves = (values.view(np.uint32) >> 16).astype(np.uint16)
        writer.add_tensor(name, halves.view(np.uint8), raw_dtype=element)
    else:
        writer.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))


def _write_shape(writer: GGUFWriter, config: HybridConfig) -> None:
    """The keys that llama.cpp sizes the model by, per block where blocks differ."""
    writer.add_block_count(len(config.pattern))
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length([config.expert_size if kind == MOE else 0 for kind in config.pattern])
    writer.add_head_count(config.attention_heads)
    writer.add_head_count_kv([config.kv_heads if kind == ATTENTION else 0 for kind in config.pattern])
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_eps(config.norm_eps)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    if MAMBA in config.pattern:
        writer.add_ssm_conv_kernel(config.conv_kernel)
        writer.add_ssm_inner_size(config.d_inner)
        writer.add_ssm_state_size(config.state_size)
        writer.add_ssm_time_step_rank(config.mamba_heads)
        writer.add_ssm_group_count(config.groups)
    if MOE in config.pattern:
        _write_experts(writer, config)


def _write_experts(writer: GGUFWriter, config: HybridConfig) -> None:
    writer.add_expert_count(config.experts)
    writer.add_expert_used_count(config.experts_per_token)
    writer.add_expert_feed_forward_length(config.expert_size)
    writer.add_expert_shared_count(1)
    writer.add_expert_shared_feed_forward_length(config.shared_expert_size)
    writer.add_expert_weights_norm(config.normalize_weights)
    writer.add_expert_weights_scale(config.router_scale)
    writer.add_expert_group_count(config.router_groups)
    writer.add_expert_group_used_count(config.router_top_groups)
    if config.latent_size:
        writer.add_moe_latent_size(config.latent_size)
