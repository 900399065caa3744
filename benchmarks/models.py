"""Say where the models under test lie, and make the one that is not committed."""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig, read_config
from nemotron_api.layout import Source, layout

TINY = Path(__file__).parents[1] / "examples/tiny/checkpoint"

CACHE = Path.home() / ".cache/nemotron/bench"

WIDE: Mapping[str, Any] = {
    "model_type": "nemotron_h",
    "architectures": ["NemotronHForCausalLM"],
    "hybrid_override_pattern": "MEM*EME",
    "num_hidden_layers": 7,
    "vocab_size": 8192,
    "hidden_size": 2688,
    "mamba_num_heads": 64,
    "mamba_head_dim": 64,
    "ssm_state_size": 128,
    "n_groups": 8,
    "conv_kernel": 4,
    "chunk_size": 128,
    "time_step_limit": [0.0, 1e308],
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "n_routed_experts": 32,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 1856,
    "n_shared_experts": 1,
    "moe_shared_expert_intermediate_size": 3712,
    "routed_scaling_factor": 2.5,
    "norm_topk_prob": True,
    "n_group": 1,
    "topk_group": 1,
    "layer_norm_epsilon": 1e-05,
    "dtype": "bfloat16",
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Nano's widths, with fewer blocks, experts and words: a step reads and computes per block what Nano's does."""


def tiny() -> Path:
    """The committed checkpoint."""
    return TINY


def wide() -> Path:
    """The checkpoint of random weights at Nano's widths, 2.4 GB in BF16; made once."""
    folder = CACHE / "wide"
    if not (folder / "config.json").is_file():
        write_random(folder, WIDE)
    return folder


def without(checkpoint: Path, kinds: str, folder: Path) -> Path:
    """The same checkpoint but for its blocks of these kinds, and for the module that drafts."""
    config = read_config(checkpoint)
    kept = [index for index, kind in enumerate(config.pattern) if kind not in kinds]
    pattern = "".join(config.pattern[index] for index in kept)
    raw = json.loads((checkpoint / "config.json").read_text())
    raw |= {"hybrid_override_pattern": pattern, "num_hidden_layers": len(pattern), "num_nextn_predict_layers": 0}
    for key in ("layers_block_type", "layer_types", "mtp_hybrid_override_pattern", "mtp_layers_block_type"):
        raw.pop(key, None)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(raw))
    save_file(dict(_renumbered(load_file(checkpoint / "model.safetensors"), kept)), folder / "model.safetensors")
    return folder


def _renumbered(tensors: Mapping[str, Tensor], kept: list[int]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the blocks that are kept, numbered anew, and those of no block."""
    for name, tensor in tensors.items():
        head, found, rest = name.partition("backbone.layers.")
        if not found:
            if not name.startswith("mtp."):
                yield name, tensor
            continue
        number, _, part = rest.partition(".")
        if int(number) in kept:
            yield f"{head}{found}{kept.index(int(number))}.{part}", tensor


def write_random(folder: Path, raw: Mapping[str, Any]) -> Path:
    """Write a checkpoint of random weights; its config.json comes last, so that half a checkpoint is none."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = read_config(raw)
    chance = torch.Generator().manual_seed(0)
    sources = [source for packed in layout(config) for source in packed.sources]
    tensors = {_full(source.name): _random(config, source, chance) for source in sources}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def _full(name: str) -> str:
    return name if name.startswith("lm_head") else f"backbone.{name}"


def _random(config: HybridConfig, source: Source, chance: torch.Generator) -> Tensor:
    """Weights that keep activations near 1, and the constants of a Mamba block where training starts them."""
    part = source.name.rpartition("mixer.")[2]
    heads = torch.arange(1, config.mamba_heads + 1)
    constants: dict[str, Tensor] = {
        "A_log": heads.log(),
        "D": torch.ones(config.mamba_heads),
        "dt_bias": torch.linspace(-6, -2, config.mamba_heads),
        "gate.e_score_correction_bias": torch.zeros(config.experts),
    }
    if part in constants:
        return constants[part].float()
    if len(source.shape) == 1:
        return (torch.zeros if part.endswith("bias") else torch.ones)(source.shape, dtype=torch.bfloat16)
    scale = 1 / math.sqrt(source.shape[-1])
    return torch.randn(source.shape, generator=chance, dtype=torch.bfloat16) * scale
