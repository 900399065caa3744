"""The published shapes of the family's members, as their config.json files have them."""

from typing import Any

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

NANO_4B: dict[str, Any] = _COMMON | {
    "hybrid_override_pattern": "M-M-M-MM-M-M*-M-M*-M-M-M*-M-M-MM*-MMM-M-M-",
    "hidden_size": 3136,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "mamba_num_heads": 96,
    "mamba_head_dim": 80,
    "intermediate_size": 12544,
}

_NAMES = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}

# Without a pattern and without a count of layers, as it is published.
LIGHTNING: dict[str, Any] = {
    key: value for key, value in NANO.items() if key not in ("hybrid_override_pattern", "num_hidden_layers")
} | {
    "layers_block_type": [_NAMES[letter] for letter in NANO["hybrid_override_pattern"]],
    "num_nextn_predict_layers": 1,
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

NEMOTRON_H_8B: dict[str, Any] = _COMMON | {
    "hybrid_override_pattern": "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "mamba_num_heads": 128,
    "mamba_head_dim": 64,
    "intermediate_size": 21504,
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
