"""List the tensors a checkpoint must hold, with their shapes, from its config.json."""

from collections.abc import Callable, Mapping

from nemotron_api.hybrid_config import ATTENTION, MAMBA, MLP, MOE, HybridConfig

Shapes = dict[str, tuple[int, ...]]


def shapes(config: HybridConfig) -> Shapes:
    """name → shape, the backbone's names without their `backbone.` or `model.` prefix.

    Names as `models/nemotron_h/modeling_nemotron_h.py` of `transformers` has them. The multi-token-prediction module
    (`mtp.*`) is not listed: engines serve without it.
    """
    found: Shapes = {
        "embeddings.weight": (config.vocab_size, config.hidden_size),
        "norm_f.weight": (config.hidden_size,),
        "lm_head.weight": (config.vocab_size, config.hidden_size),
    }
    for layer, kind in enumerate(config.pattern):
        found[f"layers.{layer}.norm.weight"] = (config.hidden_size,)
        found |= {f"layers.{layer}.mixer.{name}": shape for name, shape in MIXERS[kind](config).items()}
    return found


def _mamba(c: HybridConfig) -> Shapes:
    per_head = dict.fromkeys(("A_log", "D", "dt_bias"), (c.mamba_heads,))
    conv_bias: Shapes = {"conv1d.bias": (c.conv_dim,)} if c.conv_bias else {}
    return {
        **_linear("in_proj", c.hidden_size, c.projection_dim, c.mamba_bias),
        "conv1d.weight": (c.conv_dim, 1, c.conv_kernel),
        **conv_bias,
        **per_head,
        "norm.weight": (c.d_inner,),
        **_linear("out_proj", c.d_inner, c.hidden_size, c.mamba_bias),
    }


def _attention(c: HybridConfig) -> Shapes:
    q, kv = c.attention_heads * c.head_dim, c.kv_heads * c.head_dim
    return {
        **_linear("q_proj", c.hidden_size, q, c.attention_bias),
        **_linear("k_proj", c.hidden_size, kv, c.attention_bias),
        **_linear("v_proj", c.hidden_size, kv, c.attention_bias),
        **_linear("o_proj", q, c.hidden_size, c.attention_bias),
    }


def _mlp(c: HybridConfig) -> Shapes:
    return _up_down("", c.hidden_size, c.mlp_size, c.mlp_bias)


def _moe(c: HybridConfig) -> Shapes:
    found: Shapes = {
        "gate.weight": (c.experts, c.hidden_size),
        "gate.e_score_correction_bias": (c.experts,),
    }
    if c.latent_size:
        found |= _linear("fc1_latent_proj", c.hidden_size, c.latent_size, c.mlp_bias)
        found |= _linear("fc2_latent_proj", c.latent_size, c.hidden_size, c.mlp_bias)
    if c.shared_expert_size:
        found |= _up_down("shared_experts.", c.hidden_size, c.shared_expert_size, c.mlp_bias)
    for expert in range(c.experts):
        found |= _up_down(f"experts.{expert}.", c.expert_width, c.expert_size, bias=False)
    return found


def _up_down(prefix: str, width: int, inner: int, bias: bool) -> Shapes:
    return _linear(f"{prefix}up_proj", width, inner, bias) | _linear(f"{prefix}down_proj", inner, width, bias)


def _linear(name: str, inputs: int, outputs: int, bias: bool) -> Shapes:
    weight: Shapes = {f"{name}.weight": (outputs, inputs)}
    return weight | {f"{name}.bias": (outputs,)} if bias else weight


MIXERS: Mapping[str, Callable[[HybridConfig], Shapes]] = {MAMBA: _mamba, ATTENTION: _attention, MLP: _mlp, MOE: _moe}
