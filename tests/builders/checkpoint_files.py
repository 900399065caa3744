"""Make a tiny checkpoint by hand, byte by byte: no torch, no transformers, every file open to damage."""

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nemotron_api.hybrid_config import read_config
from nemotron_api.layout import layout, sources

CONFIG: Mapping[str, Any] = {
    "model_type": "nemotron_h",
    "hybrid_override_pattern": "ME*-",
    "vocab_size": 32,
    "hidden_size": 8,
    "mamba_num_heads": 4,
    "mamba_head_dim": 4,
    "ssm_state_size": 4,
    "n_groups": 2,
    "conv_kernel": 4,
    "chunk_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 6,
    "intermediate_size": 12,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 6,
    "moe_shared_expert_intermediate_size": 10,
    "moe_latent_size": 4,
}


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The tensors of a checkpoint with this config.json, by canonical name."""
    return {source.name: source.shape for source in sources(layout(read_config(config))).values()}


def a_tensor_file(tensors: Mapping[str, tuple[int, ...]], **header: Any) -> bytes:
    """A safetensors file of BF16 tensors with these shapes; `header` replaces entries of its header."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, shape in tensors.items():
        end = position + 2 * math.prod(shape)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, end]}
        position = end
    encoded = json.dumps(entries | header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + bytes(i * 7 % 251 for i in range(position))


def a_checkpoint(folder: Path, config: Mapping[str, Any] = CONFIG, *, shards: int = 1, sums: bool = False) -> Path:
    """A checkpoint that fits its config.json, in one file or in shards with an index, with SHA256SUMS if asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    tensors = {_full(name): shape for name, shape in shapes(config).items()}
    if shards == 1:
        (folder / "model.safetensors").write_bytes(a_tensor_file(tensors))
    else:
        _write_shards(folder, tensors, shards)
    if sums:
        write_sums(folder)
    return folder


def write_sums(folder: Path) -> int:
    """Write SHA256SUMS of what is there now; how many files it lists."""
    files = sorted(path for path in folder.iterdir() if path.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines))
    return len(lines)


def _write_shards(folder: Path, tensors: Mapping[str, tuple[int, ...]], shards: int) -> None:
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[shard::shards])
        (folder / file).write_bytes(a_tensor_file(part))
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def _full(name: str) -> str:
    return name if name.startswith(("lm_head", "mtp.")) else f"backbone.{name}"
