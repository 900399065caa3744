"""Make tiny random checkpoints with transformers, and read what transformers computes on them.

transformers is imported where it is called: not every machine that knows these shapes has it.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# Every pair that wrong engines confuse is unequal: hidden ≠ heads · head_dim, n_groups ≠ heads, d_inner ≠ 2 · hidden.
TINY: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 40,
    "hybrid_override_pattern": "MEM*E-",
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "mamba_num_heads": 6,
    "mamba_head_dim": 10,
    "ssm_state_size": 12,
    "n_groups": 3,
    "conv_kernel": 4,
    "chunk_size": 16,
    "intermediate_size": 52,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 28,
    "moe_shared_expert_intermediate_size": 36,
    "moe_latent_size": 20,
    "routed_scaling_factor": 2.5,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def a_checkpoint(
    directory: Path, *, seed: int = 0, shard_size: str = "1GB", dt_shift: float = 0.0, **changes: Any
) -> Path:
    """Write a random model of the TINY shape, but for `changes`, in Hugging Face layout.

    `dt_shift` moves every head's dt_bias: -9 makes steps of about 1e-4.
    """
    from transformers import NemotronHConfig, NemotronHForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = NemotronHForCausalLM(NemotronHConfig(**{**TINY, **changes}))
        _perturb_vectors(model, dt_shift)
    model.save_pretrained(directory, max_shard_size=shard_size)
    return directory


def an_oracle(checkpoint: Path) -> Any:
    """transformers' own model of a checkpoint, in FP32, its dt clamp corrected."""
    from transformers import NemotronHForCausalLM

    return without_dt_clamp(NemotronHForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval())


def without_dt_clamp(model: Any) -> Any:
    """The model with dt limited to (0, ∞), as it was trained: transformers clamps from below, in prefill only."""
    for layer in model.model.layers:
        if layer.block_type == "linear_attention":
            layer.mixer.time_step_limit = (0.0, float("inf"))
    return model


@torch.inference_mode()
def oracle_logits(oracle: Any, tokens: list[int]) -> Tensor:
    """FP32 logits (l, vocabulary) after each of the tokens."""
    logits: Tensor = oracle(torch.tensor([tokens]), use_cache=False).logits[0].float()
    return logits


@torch.no_grad()
def _perturb_vectors(model: Any, dt_shift: float) -> None:
    """Norm weights of 1 and biases of 0, as initialised, would hide that they are forgotten."""
    for name, values in [*model.named_parameters(), *model.named_buffers()]:
        if values.ndim == 1 and values.is_floating_point():
            values += torch.randn_like(values) * (0.02 if "A_log" in name else 0.2)
            values += dt_shift if "dt_bias" in name else 0.0
