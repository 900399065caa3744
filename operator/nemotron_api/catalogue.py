"""Know the members of the family: their shapes, and the formats their weights are published in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nemotron_api.errors import InvalidSpec
from nemotron_api.formats import WeightFormat
from nemotron_api.hybrid_config import HybridConfig, read_config


@dataclass(frozen=True, slots=True)
class Member:
    """One model. Sources: NVIDIA-NeMo/Nemotron and Megatron-Bridge, the models' own config.json files."""

    name: str
    title: str
    raw: Mapping[str, Any]
    """The fields of its config.json that decide its shape."""
    formats: tuple[WeightFormat, ...]
    """The formats it is published in."""
    context: int
    """Tokens it is made for."""
    elements: int | None = None
    """Published number of elements of all tensors, its draft module's among them, where there is one."""
    aliases: tuple[str, ...] = ()

    @property
    def config(self) -> HybridConfig:
        return read_config(self.raw)


_COMMON: dict[str, Any] = {
    "model_type": "nemotron_h",
    "vocab_size": 131072,
    "head_dim": 128,
    "ssm_state_size": 128,
    "n_groups": 8,
    "conv_kernel": 4,
    "chunk_size": 128,
    "time_step_limit": [0.0, float("inf")],
}

_NAMES = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}

NANO: dict[str, Any] = _COMMON | {
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "num_hidden_layers": 52,
    "hidden_size": 2688,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "mamba_num_heads": 64,
    "mamba_head_dim": 64,
    "n_routed_experts": 128,
    "num_experts_per_tok": 6,
    "moe_intermediate_size": 1856,
    "moe_shared_expert_intermediate_size": 3712,
    "routed_scaling_factor": 2.5,
}

# Without a pattern and without a count of layers, as it is published.
LIGHTNING: dict[str, Any] = {
    key: value for key, value in NANO.items() if key not in ("hybrid_override_pattern", "num_hidden_layers")
} | {
    "layers_block_type": [_NAMES[letter] for letter in NANO["hybrid_override_pattern"]],
    "num_nextn_predict_layers": 1,
}

SUPER: dict[str, Any] = _COMMON | {
    "hybrid_override_pattern": (
        "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME"
    ),
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "mamba_num_heads": 128,
    "mamba_head_dim": 64,
    "n_routed_experts": 512,
    "num_experts_per_tok": 22,
    "moe_intermediate_size": 2688,
    "moe_shared_expert_intermediate_size": 5376,
    "moe_latent_size": 1024,
    "routed_scaling_factor": 5.0,
    "num_nextn_predict_layers": 1,
    "mtp_hybrid_override_pattern": "*E",
}

ULTRA: dict[str, Any] = _COMMON | {
    "layers_block_type": [
        _NAMES[letter]
        for letter in (
            "MEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*"
            "EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME"
        )
    ],
    "hidden_size": 8192,
    "num_attention_heads": 64,
    "num_key_value_heads": 2,
    "mamba_num_heads": 256,
    "mamba_head_dim": 64,
    "n_routed_experts": 512,
    "num_experts_per_tok": 22,
    "moe_intermediate_size": 5120,
    "moe_shared_expert_intermediate_size": 10240,
    "moe_latent_size": 2048,
    "routed_scaling_factor": 5.0,
    "num_nextn_predict_layers": 1,
    "mtp_layers_block_type": ["attention", "moe"],
}

NANO_4B: dict[str, Any] = _COMMON | {
    "hybrid_override_pattern": "M-M-M-MM-M-M*-M-M*-M-M-M*-M-M-MM*-MMM-M-M-",
    "hidden_size": 3136,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "mamba_num_heads": 96,
    "mamba_head_dim": 80,
    "intermediate_size": 12544,
}

NANO_2_9B: dict[str, Any] = _COMMON | {
    "hybrid_override_pattern": "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
    "hidden_size": 4480,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "mamba_num_heads": 128,
    "mamba_head_dim": 80,
    "intermediate_size": 15680,
}

NANO_2_12B: dict[str, Any] = NANO_2_9B | {
    "hybrid_override_pattern": "M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M*-M-M-M-M-",
    "hidden_size": 5120,
    "intermediate_size": 20480,
}

NEMOTRON_H_8B: dict[str, Any] = _COMMON | {
    "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "mamba_num_heads": 128,
    "mamba_head_dim": 64,
    "intermediate_size": 21504,
}

NEMOTRON_H_47B: dict[str, Any] = _COMMON | {
    "hybrid_override_pattern": (
        "M-M-M-M-M-M-M-M-M*-M-M-M-M-M-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-M-M---MM---M-M*-M-M-M-M-M-"
    ),
    "hidden_size": 8192,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "mamba_num_heads": 256,
    "mamba_head_dim": 64,
    "ssm_state_size": 256,
    "intermediate_size": 30720,
}

NEMOTRON_H_56B: dict[str, Any] = NEMOTRON_H_47B | {
    "hybrid_override_pattern": (
        "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-"
        "M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-"
    ),
    "intermediate_size": 32768,
}

_DENSE: tuple[WeightFormat, ...] = ("BF16",)

MEMBERS: Mapping[str, Member] = {
    member.name: member
    for member in (
        Member(
            "nemotron-3-nano-30b-a3b",
            "Nemotron 3 Nano 30B-A3B",
            NANO,
            ("BF16", "FP8", "NVFP4"),
            1 << 20,
            aliases=("nemotron-3-nano", "nano"),
        ),
        Member(
            "nemotron-3.5-lightning-30b-a3b",
            "Nemotron 3.5 Lightning 30B-A3B",
            LIGHTNING,
            ("BF16", "W4A16"),
            1 << 20,
            elements=32_913_266_240,
            aliases=("nemotron-3.5-lightning", "lightning"),
        ),
        Member(
            "nemotron-3-super-120b-a12b",
            "Nemotron 3 Super 120B-A12B",
            SUPER,
            ("BF16", "FP8", "NVFP4"),
            1 << 20,
            elements=123_611_033_088,
            aliases=("nemotron-3-super", "super"),
        ),
        Member(
            "nemotron-3-ultra-550b-a55b",
            "Nemotron 3 Ultra 550B-A55B",
            ULTRA,
            ("BF16", "NVFP4"),
            1 << 20,
            aliases=("nemotron-3-ultra", "ultra"),
        ),
        Member(
            "nemotron-3-nano-4b",
            "Nemotron 3 Nano 4B",
            NANO_4B,
            ("BF16", "FP8"),
            1 << 18,
            elements=3_973_556_832,
            aliases=("nano-4b",),
        ),
        Member("nemotron-nano-2-9b", "Nemotron Nano 2 9B", NANO_2_9B, ("BF16", "FP8"), 1 << 17, aliases=("nano-2-9b",)),
        Member("nemotron-nano-2-12b", "Nemotron Nano 2 12B", NANO_2_12B, _DENSE, 1 << 17, aliases=("nano-2-12b",)),
        Member("nemotron-h-8b", "Nemotron-H 8B", NEMOTRON_H_8B, _DENSE, 1 << 13),
        Member("nemotron-h-47b", "Nemotron-H 47B", NEMOTRON_H_47B, _DENSE, 1 << 13),
        Member("nemotron-h-56b", "Nemotron-H 56B", NEMOTRON_H_56B, _DENSE, 1 << 13),
    )
}


def member(name: str) -> Member:
    """The member of this name or alias, in any case.

    Raises:
        InvalidSpec: there is none.
    """
    wanted = name.lower()
    for each in MEMBERS.values():
        if wanted in (each.name, *each.aliases):
            return each
    raise InvalidSpec(f"{name} is no model of the family; known are {', '.join(MEMBERS)}")
