"""Read the config.json of a Nemotron-H model into one frozen value.

Standard library only: images without pydantic read it too.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemotron_api.errors import InvalidModel
from nemotron_api.hybrid_fields import FIELDS, NEEDED

MAMBA, ATTENTION, MOE, MLP = "M", "*", "E", "-"

BLOCKS = {
    "mamba": MAMBA,
    "linear_attention": MAMBA,
    "attention": ATTENTION,
    "full_attention": ATTENTION,
    "moe": MOE,
    "mlp": MLP,
}

FLOAT32_BYTES = 4

PRACTICALLY_INFINITE = 1e30


@dataclass(frozen=True, slots=True)
class HybridConfig:
    """A hybrid model's shape; `pattern` has one letter per block: M Mamba-2, * attention, E experts, - MLP.

    `mtp_pattern` has those of the multi-token-prediction module, none of them M; it is empty without one.
    A number that belongs to a kind of block the pattern lacks may be 0.
    """

    pattern: str
    mtp_pattern: str
    vocab_size: int
    hidden_size: int
    norm_eps: float
    eos_token_ids: tuple[int, ...]

    mamba_heads: int
    mamba_head_dim: int
    state_size: int
    groups: int
    conv_kernel: int
    chunk_size: int
    conv_bias: bool
    mamba_bias: bool

    attention_heads: int
    kv_heads: int
    head_dim: int
    attention_bias: bool

    mlp_size: int
    mlp_bias: bool

    experts: int
    experts_per_token: int
    expert_size: int
    shared_expert_size: int
    latent_size: int
    router_groups: int
    router_top_groups: int
    router_scale: float
    normalize_weights: bool

    @property
    def d_inner(self) -> int:
        """Width of a Mamba block's x: h · p, whatever `expand` says."""
        return self.mamba_heads * self.mamba_head_dim

    @property
    def conv_dim(self) -> int:
        """Channels of the causal convolution: x, B and C side by side."""
        return self.d_inner + 2 * self.groups * self.state_size

    @property
    def projection_dim(self) -> int:
        """Rows of a Mamba block's in_proj: z, x, B, C and dt."""
        return self.d_inner + self.conv_dim + self.mamba_heads

    @property
    def expert_width(self) -> int:
        """What goes into and comes out of one routed expert: the latent size, or the hidden size without one."""
        return self.latent_size or self.hidden_size

    def blocks(self, kind: str) -> int:
        """How many blocks of this kind the model has."""
        return self.pattern.count(kind)

    def slot_bytes(self, element_bytes: int) -> int:
        """What a step reads and writes of a sequence: FP32 states and `element_bytes`-wide taps of all layers."""
        taps = (self.conv_kernel - 1) * self.conv_dim * element_bytes
        states = self.d_inner * self.state_size * FLOAT32_BYTES
        return self.blocks(MAMBA) * (taps + states)

    def kv_bytes_per_token(self, element_bytes: int) -> int:
        """Memory of one token's keys and values in all attention layers."""
        return self.blocks(ATTENTION) * 2 * self.kv_heads * self.head_dim * element_bytes


def read_config(source: Path | Mapping[str, Any]) -> HybridConfig:
    """The model's shape, from the path of a config.json, the checkpoint's folder, or parsed JSON.

    Raises InvalidModel for another architecture, a contradiction, or arithmetic that no member of the family has.
    """
    raw = source if isinstance(source, Mapping) else read_json(source / "config.json" if source.is_dir() else source)
    model_type = raw.get("model_type")
    if model_type != "nemotron_h":
        raise InvalidModel(f"config.json says model_type {model_type!r}; this project serves the nemotron_h family")
    pattern, mtp_pattern = _pattern(raw), _mtp_pattern(raw)
    _refuse_unknown_arithmetic(raw)
    if raw.get("n_shared_experts") == 0:
        raw = {**raw, "moe_shared_expert_intermediate_size": 0}
    needed = set(NEEDED[""]).union(*(NEEDED[kind] for kind in {*pattern, *mtp_pattern}))
    values = {name: field.read(raw, required=name in needed) for name, field in FIELDS.items()}
    config = HybridConfig(
        pattern=pattern, mtp_pattern=mtp_pattern, eos_token_ids=read_token_ids(raw, "eos_token_id"), **values
    )
    _check(config)
    return config


def read_token_ids(raw: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """The ids under `key`, which config files write as a number, a list, null, or not at all."""
    value = raw.get(key)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token) is int and token >= 0 for token in ids):
        raise InvalidModel(f"{key} must be a token id or a list of them, but is {value!r}")
    return tuple(ids)


def read_json(file: Path) -> Mapping[str, Any]:
    """The object in one of a checkpoint's JSON files; raises InvalidModel, naming it, when there is none."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidModel(f"{file.name} is missing in {file.parent}: a checkpoint is a folder that holds it") from None
    except ValueError as error:
        raise InvalidModel(f"{file.name} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise InvalidModel(f"{file.name} must hold a JSON object, but holds a {type(raw).__name__}")
    return raw


def _pattern(raw: Mapping[str, Any]) -> str:
    """One letter per block, from whichever spellings are there; they must agree."""
    found = {
        key: _letters(key, raw[key])
        for key in ("hybrid_override_pattern", "layers_block_type", "layer_types")
        if raw.get(key)
    }
    if not found:
        raise InvalidModel("config.json names no layers: it needs hybrid_override_pattern or layers_block_type")
    pattern, *others = found.values()
    if any(other != pattern for other in others):
        spelled = ", ".join(f"{key} {value}" for key, value in found.items())
        raise InvalidModel(f"config.json contradicts itself about the layers: {spelled}")
    count = raw.get("num_hidden_layers")
    if count is not None and count != len(pattern):
        raise InvalidModel(f"num_hidden_layers is {count}, but {next(iter(found))} names {len(pattern)} layers")
    return pattern


def _mtp_pattern(raw: Mapping[str, Any]) -> str:
    """The blocks of the multi-token-prediction module; empty when the model has none."""
    if not raw.get("num_nextn_predict_layers"):
        return ""
    keys = [key for key in ("mtp_hybrid_override_pattern", "mtp_layers_block_type") if raw.get(key)]
    pattern = _letters(keys[0], raw[keys[0]]) if keys else ATTENTION + MOE
    if MAMBA in pattern:
        # Drafts are thrown away again and again, and a state cannot go back.
        raise InvalidModel(f"{keys[0]} {pattern} has a Mamba block: the nemotron_h family drafts with *, E and - only")
    return pattern


def _letters(key: str, value: object) -> str:
    """`value` as pattern letters; a string has them already, a list has names."""
    letters = [BLOCKS.get(name, name) if isinstance(value, list) else name for name in _items(value)]
    if not letters or not set(letters) <= set(BLOCKS.values()):
        raise InvalidModel(f"{key} must be letters of M*E- or names out of {', '.join(BLOCKS)}, but is {value!r}")
    return "".join(letters)


def _items(value: object) -> list[str]:
    """The strings of a string or of a list of strings; nothing of anything else."""
    items = list(value) if isinstance(value, str | list) else []
    return items if all(isinstance(item, str) for item in items) else []


def _refuse_unknown_arithmetic(raw: Mapping[str, Any]) -> None:
    """Serve nothing whose formulas differ from the family's: its tokens would be silently wrong."""
    for key, only in (("mlp_hidden_act", "relu2"), ("mamba_hidden_act", "silu"), ("sliding_window", None)):
        if raw.get(key, only) != only:
            raise InvalidModel(f"{key} is {raw[key]!r}; the nemotron_h family has {only!r}")
    limit = raw.get("time_step_limit", raw.get("mamba_dt_limit"))
    if limit is not None and not _is_no_clamp(limit):
        raise InvalidModel(f"time_step_limit {limit!r} clamps dt; the family has [0, Infinity], which does not")


def _is_no_clamp(limit: object) -> bool:
    """Whether this is (0, ∞) in any of the spellings found in the wild: Infinity, 1e308, {"__float__": "Infinity"}."""
    if not isinstance(limit, list | tuple) or len(limit) != 2:
        return False
    low, high = (_number(value) for value in limit)
    return low == 0.0 and high >= PRACTICALLY_INFINITE


def _number(value: object) -> float:
    """A JSON number in any spelling; NaN, which no comparison accepts, for anything else."""
    written = value.get("__float__") if isinstance(value, Mapping) else value
    try:
        return float(written) if isinstance(written, int | float | str) else math.nan
    except ValueError:
        return math.nan


def _check(config: HybridConfig) -> None:
    """Raise InvalidModel for the first rule that the numbers of blocks in the pattern break."""
    rules = (
        (MAMBA, _divides(config.groups, config.mamba_heads), "mamba_num_heads must be a multiple of n_groups"),
        (MAMBA, config.conv_kernel >= 2, "conv_kernel must be at least 2"),
        (
            ATTENTION,
            _divides(config.kv_heads, config.attention_heads),
            "num_attention_heads must be a multiple of num_key_value_heads",
        ),
        (MOE, config.experts_per_token <= config.experts, "num_experts_per_tok must be at most n_routed_experts"),
        (MOE, _divides(config.router_groups, config.experts), "n_routed_experts must be a multiple of n_group"),
        (MOE, config.router_top_groups <= config.router_groups, "topk_group must be at most n_group"),
        (MOE, _enough_experts(config), "topk_group groups must hold at least num_experts_per_tok experts"),
    )
    for kind, holds, rule in rules:
        if kind in config.pattern + config.mtp_pattern and not holds:
            raise InvalidModel(f"config.json contradicts itself: {rule}")


def _divides(divisor: int, number: int) -> bool:
    return divisor > 0 and number % divisor == 0


def _enough_experts(config: HybridConfig) -> bool:
    return config.experts_per_token * config.router_groups <= config.experts * config.router_top_groups
