"""Say how many bytes the weights of a model take in the formats the family is published in."""

import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Literal

from nemotron_api.hybrid_config import ATTENTION, MAMBA, HybridConfig
from nemotron_api.layout import MTP, Packed, layout

WeightFormat = Literal["BF16", "FP8", "NVFP4", "W4A16"]
"""W4A16 is NVFP4 for weights alone, whatever the GPU: products are in BF16."""


class Role(Enum):
    """What a tensor is for, which decides its format and whether GPUs that share a layer share it."""

    EMBEDDING = auto()
    HEAD = auto()
    MAMBA = auto()
    MAMBA_BEFORE_ATTENTION = auto()
    ATTENTION = auto()
    ROUTED = auto()
    SHARED = auto()
    LATENT = auto()
    ROUTER = auto()
    MLP = auto()
    DRAFTS = auto()
    """All of the multi-token-prediction module: every published recipe leaves it in BF16."""
    SMALL = auto()
    """Norms, the convolution, biases and the recurrence's own numbers."""


BF16 = 2.0
NVFP4 = 4.5 / 8
"""4 bits an element, and a scale of 8 bits for every 16."""

# Sources: the quantisation sections of NVIDIA's model cards and reports. What a recipe does not name stays in BF16.
_RECIPES: Mapping[WeightFormat, Mapping[Role, float]] = {
    "BF16": {},
    "FP8": dict.fromkeys((Role.MAMBA, Role.MAMBA_BEFORE_ATTENTION, Role.ROUTED, Role.SHARED, Role.MLP), 1.0),
    "NVFP4": {
        Role.ROUTED: NVFP4,
        **dict.fromkeys((Role.MAMBA, Role.MAMBA_BEFORE_ATTENTION, Role.SHARED, Role.MLP), 1.0),
    },
    "W4A16": dict.fromkeys(
        (Role.HEAD, Role.MAMBA, Role.MAMBA_BEFORE_ATTENTION, Role.ROUTED, Role.SHARED, Role.MLP), NVFP4
    ),
}

# Nano keeps the Mamba layer before each attention layer, and quantises the others and the shared expert like the rest.
_WITHOUT_LATENT: Mapping[WeightFormat, Mapping[Role, float]] = {
    "FP8": {Role.MAMBA_BEFORE_ATTENTION: BF16},
    "NVFP4": {Role.MAMBA: NVFP4, Role.MAMBA_BEFORE_ATTENTION: BF16, Role.SHARED: NVFP4},
}

_REPLICATED = frozenset({Role.LATENT, Role.ROUTER, Role.SMALL})
"""What each of the GPUs that share a layer holds in full."""

_ROLES: tuple[tuple[str, Role], ...] = (
    (r"embeddings\.weight", Role.EMBEDDING),
    (r"lm_head\.weight", Role.HEAD),
    (r".*\.mixer\.(in|out)_proj\.weight", Role.MAMBA),
    (r".*\.mixer\.(qkv|o)_proj\.weight", Role.ATTENTION),
    (r".*\.mixer\.experts\..*", Role.ROUTED),
    (r".*\.mixer\.shared_experts\..*weight", Role.SHARED),
    (r".*\.mixer\.fc[12]_latent_proj\.weight", Role.LATENT),
    (r".*\.mixer\.gate\.weight", Role.ROUTER),
    (r".*\.mixer\.(up|down)_proj\.weight", Role.MLP),
)


def elements(config: HybridConfig) -> int:
    """All numbers of a model, its draft module's included."""
    return sum(packed.elements for packed in layout(config))


def weight_bytes(config: HybridConfig, form: WeightFormat, gpus: int = 1) -> int:
    """What each of `gpus` GPUs that share every layer holds of the weights, the draft module's included."""
    bytes_of, total = _recipe(config, form), 0.0
    for packed in layout(config):
        role = _role(config, packed)
        total += packed.elements * bytes_of.get(role, BF16) / (1 if role in _REPLICATED else gpus)
    return round(total)


def _recipe(config: HybridConfig, form: WeightFormat) -> Mapping[Role, float]:
    own = _WITHOUT_LATENT.get(form, {}) if config.experts and not config.latent_size else {}
    return {**_RECIPES[form], **own}


def _role(config: HybridConfig, packed: Packed) -> Role:
    if packed.name.startswith(MTP):
        return Role.DRAFTS
    role = next((role for pattern, role in _ROLES if re.fullmatch(pattern, packed.name)), Role.SMALL)
    if role is Role.MAMBA and _is_before_attention(config.pattern, int(packed.name.split(".")[1])):
        return Role.MAMBA_BEFORE_ATTENTION
    return role


def _is_before_attention(pattern: str, block: int) -> bool:
    assert pattern[block] == MAMBA
    return pattern[block + 1 : block + 2] == ATTENTION
