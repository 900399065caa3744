"""Build the demo model: every part of the Nemotron 3 architecture at a millionth of its size.

Letters in shapes: b sequences, t positions, h hidden width, v vocabulary.
"""

import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import NemotronHConfig, NemotronHForCausalLM
from transformers.models.nemotron_h.modeling_nemotron_h import NemotronHBlock, NemotronHRMSNorm

from examples.tiny import tokenizer

PATTERN = "MEM*EME"
MTP_PATTERN = "*E"

# Widths are chosen so that an engine which confuses two of them fails: hidden 128, attention 6 x 48 = 288,
# Mamba 6 x 32 = 192 in 2 groups, experts 48 -> 96 -> 48. The limits of the time step are those of the family.
CONFIG: dict[str, Any] = {
    "vocab_size": tokenizer.VOCAB_SIZE,
    "hidden_size": 128,
    "hybrid_override_pattern": PATTERN,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 48,
    "mamba_num_heads": 6,
    "mamba_head_dim": 32,
    "ssm_state_size": 32,
    "n_groups": 2,
    "conv_kernel": 4,
    "chunk_size": 64,
    "n_routed_experts": 16,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 96,
    "moe_shared_expert_intermediate_size": 192,
    "moe_latent_size": 48,
    "routed_scaling_factor": 2.5,
    "num_nextn_predict_layers": 1,
    "mtp_hybrid_override_pattern": MTP_PATTERN,
    "max_position_embeddings": 4096,
    "pad_token_id": tokenizer.PAD,
    "bos_token_id": tokenizer.BOS,
    "eos_token_id": tokenizer.EOS,
    "attn_implementation": "sdpa",
    "experts_implementation": "grouped_mm",
}
# Smallest and largest time step the heads of a layer start with; the family clamps neither end.
TIME_STEPS = (1e-4, 1e-1)


def build() -> NemotronHForCausalLM:
    """The untrained model in FP32, its time steps spread evenly (in the logarithm) over the heads of each layer."""
    model = NemotronHForCausalLM(NemotronHConfig(**CONFIG))
    smallest, largest = map(math.log10, TIME_STEPS)
    for mixer in mamba_mixers(model):
        steps = torch.logspace(smallest, largest, mixer.num_heads)
        with torch.no_grad():
            mixer.dt_bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # the inverse of softplus
    return lift_clamp(model)


def load(folder: Path) -> NemotronHForCausalLM:
    """The trained model, its weights upcast to FP32."""
    return lift_clamp(NemotronHForCausalLM.from_pretrained(folder, dtype=torch.float32)).eval()


def lift_clamp(model: NemotronHForCausalLM) -> NemotronHForCausalLM:
    """The same model with the time step unbounded: transformers clamps it to 0.001 in prefill, and only there."""
    for mixer in mamba_mixers(model):
        mixer.time_step_limit = (0.0, float("inf"))
    return model


def mamba_mixers(model: NemotronHForCausalLM) -> list[Any]:
    return [layer.mixer for layer in model.model.layers if layer.block_type == "linear_attention"]


def routers(*modules: nn.Module) -> list[Any]:
    return [part for module in modules for part in module.modules() if hasattr(part, "e_score_correction_bias")]


class MultiTokenPrediction(nn.Module):
    """Predict the token after the next from the hidden state of one token and the embedding of the next.

    x = eh_proj([enorm(embedding(token i+1)); hnorm(hidden i)]) goes through one attention and one MoE layer; the
    embedding and the head are the model's. The output takes the hidden state's place for a further draft.
    The module's names are those of the family's checkpoints, under `mtp.`.
    """

    def __init__(self, config: NemotronHConfig) -> None:
        super().__init__()
        layered = copy.deepcopy(config)
        layered.layers_block_type = list(config.mtp_layers_block_type)
        self.layers = nn.ModuleList(NemotronHBlock(layered, i) for i in range(len(layered.layers_block_type)))
        width, epsilon = config.hidden_size, config.layer_norm_epsilon
        self.layers[0].enorm = NemotronHRMSNorm(width, epsilon)
        self.layers[0].hnorm = NemotronHRMSNorm(width, epsilon)
        self.layers[0].eh_proj = nn.Linear(2 * width, width, bias=False)
        self.layers[-1].final_layernorm = NemotronHRMSNorm(width, epsilon)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=config.initializer_range)

    def forward(self, hidden: Tensor, next_embedding: Tensor) -> Tensor:
        """(b, t, h) hidden states after the final norm and (b, t, h) embeddings of the next tokens -> (b, t, h)."""
        first: Any = self.layers[0]
        last: Any = self.layers[-1]
        x = first.eh_proj(torch.cat([first.enorm(next_embedding), first.hnorm(hidden)], dim=-1))
        for layer in self.layers:
            x = layer(x)
        normed: Tensor = last.final_layernorm(x)
        return normed
