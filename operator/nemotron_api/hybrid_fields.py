"""Name the keys of a Nemotron-H config.json, their older spellings, types and defaults: one table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nemotron_api.errors import InvalidModel


@dataclass(frozen=True, slots=True)
class Field:
    """One number or flag: `keys` are tried in order, `default` stands when none is there."""

    keys: tuple[str, ...]
    kind: type
    default: int | float | bool

    def read(self, raw: Mapping[str, Any], *, required: bool) -> Any:
        """The value, or `default` where the key is absent or null; InvalidModel for a missing or unusable one."""
        for key in self.keys:
            if raw.get(key) is not None:
                return self._checked(key, raw[key], required)
        if required and not self.default:
            raise InvalidModel(f"config.json has no {self.keys[0]}, which a model with these layers needs")
        return self.default

    def _checked(self, key: str, value: Any, required: bool) -> Any:
        if self.kind is bool:
            fits = isinstance(value, bool)
        else:
            allowed = (int, float) if self.kind is float else int
            fits = (
                isinstance(value, allowed)
                and not isinstance(value, bool)
                and (value > 0 or (value == 0 and not required))
            )
        if not fits:
            name = {bool: "true or false", int: "a positive integer", float: "a positive number"}[self.kind]
            raise InvalidModel(f"{key} must be {name}, but is {value!r}")
        return self.kind(value)


def _integer(*keys: str, default: int = 0) -> Field:
    return Field(keys, int, default)


def _number(*keys: str, default: float) -> Field:
    return Field(keys, float, default)


def _flag(*keys: str, default: bool = False) -> Field:
    return Field(keys, bool, default)


FIELDS: dict[str, Field] = {
    "vocab_size": _integer("vocab_size"),
    "hidden_size": _integer("hidden_size"),
    "norm_eps": _number("layer_norm_epsilon", "norm_eps", "rms_norm_eps", default=1e-5),
    "mamba_heads": _integer("mamba_num_heads"),
    "mamba_head_dim": _integer("mamba_head_dim"),
    "state_size": _integer("ssm_state_size", "mamba_state_dim"),
    "groups": _integer("n_groups", "mamba_n_groups", "mamba_num_groups"),
    "conv_kernel": _integer("conv_kernel", "mamba_d_conv", default=4),
    "chunk_size": _integer("chunk_size", "mamba_chunk_size", default=128),
    "conv_bias": _flag("use_conv_bias", "mamba_conv_bias", default=True),
    "mamba_bias": _flag("use_bias"),
    "attention_heads": _integer("num_attention_heads"),
    "kv_heads": _integer("num_key_value_heads"),
    "head_dim": _integer("head_dim", "attention_head_dim"),
    "attention_bias": _flag("attention_bias"),
    "mlp_size": _integer("intermediate_size"),
    "mlp_bias": _flag("mlp_bias"),
    "experts": _integer("n_routed_experts", "num_local_experts"),
    "experts_per_token": _integer("num_experts_per_tok"),
    "expert_size": _integer("moe_intermediate_size"),
    "shared_expert_size": _integer("moe_shared_expert_intermediate_size"),
    "latent_size": _integer("moe_latent_size"),
    "router_groups": _integer("n_group", default=1),
    "router_top_groups": _integer("topk_group", default=1),
    "router_scale": _number("routed_scaling_factor", default=1.0),
    "normalize_weights": _flag("norm_topk_prob", default=True),
}

NEEDED: dict[str, tuple[str, ...]] = {
    "": ("vocab_size", "hidden_size", "norm_eps"),
    "M": ("mamba_heads", "mamba_head_dim", "state_size", "groups", "conv_kernel", "chunk_size"),
    "*": ("attention_heads", "kv_heads", "head_dim"),
    "E": ("experts", "experts_per_token", "expert_size", "router_groups", "router_top_groups", "router_scale"),
    "-": ("mlp_size",),
}
"""Fields that must be positive: always, and for each kind of block in the pattern."""
