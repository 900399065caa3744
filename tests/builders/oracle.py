"""The model in FP64, one token after the other: the sequential recurrence that tier E2 is defined by.

It shares no arithmetic with the kernels or the runtime, and no tricks: a loop over tokens, plain formulas.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig, read_config

Part = dict[str, Tensor]


@torch.inference_mode()
def fp64_logits(checkpoint: Path, tokens: list[int]) -> Tensor:
    """FP64 logits (l, vocabulary) after each of the tokens, of an unsharded checkpoint."""
    config, tensors = read_config(checkpoint), fp64_tensors(checkpoint)
    return F.linear(fp64_hidden(config, tensors, tokens), tensors["lm_head.weight"])


def fp64_tensors(checkpoint: Path) -> Part:
    """The tensors of an unsharded checkpoint in FP64, without the prefix of the backbone."""
    stored = load_file(checkpoint / "model.safetensors")
    return {name.removeprefix("backbone."): tensor.double() for name, tensor in stored.items()}


def fp64_hidden(config: HybridConfig, tensors: Part, tokens: list[int]) -> Tensor:
    """FP64 hidden states (l, d) of the tokens, after the final norm."""
    h = blocks(config, config.pattern, under(tensors, "layers."), tensors["embeddings.weight"][tokens])
    return norm(h, tensors["norm_f.weight"], config.norm_eps)


def blocks(config: HybridConfig, pattern: str, part: Part, h: Tensor) -> Tensor:
    """h (l, d) after the blocks that the pattern spells, whose tensors begin with their numbers."""
    mixers = {"M": _mamba, "*": _attention, "E": _experts, "-": _mlp}
    for layer, kind in enumerate(pattern):
        here = under(part, f"{layer}.")
        h = h + mixers[kind](config, under(here, "mixer."), norm(h, here["norm.weight"], config.norm_eps))
    return h


def under(tensors: Part, prefix: str) -> Part:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _linear(part: Part, name: str, x: Tensor) -> Tensor:
    return F.linear(x, part[f"{name}.weight"], part.get(f"{name}.bias"))


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


def _mamba(config: HybridConfig, part: Part, x: Tensor) -> Tensor:
    heads, width, groups, n = config.mamba_heads, config.mamba_head_dim, config.groups, config.state_size
    z, xbc, dt = torch.split(_linear(part, "in_proj", x), [config.d_inner, config.conv_dim, heads], -1)
    padded = torch.cat([torch.zeros(config.conv_kernel - 1, config.conv_dim).double(), xbc])
    taps, bias = part["conv1d.weight"][:, 0].T, part.get("conv1d.bias", torch.zeros(1).double())
    dt = (dt + part["dt_bias"]).exp().log1p()
    state = torch.zeros(heads, width, n).double()
    rows = []
    for t in range(len(x)):
        row = F.silu((padded[t : t + config.conv_kernel] * taps).sum(0) + bias)
        u, B, C = torch.split(row, [config.d_inner, groups * n, groups * n])
        u = u.view(heads, width)
        B, C = (v.view(groups, n).repeat_interleave(heads // groups, 0) for v in (B, C))
        decay = (-dt[t] * part["A_log"].exp()).exp()
        state = decay[:, None, None] * state + torch.einsum("h,hp,hn->hpn", dt[t], u, B)
        rows.append((torch.einsum("hpn,hn->hp", state, C) + part["D"][:, None] * u).flatten())
    gated = (torch.stack(rows) * F.silu(z)).view(len(x), groups, -1)
    return _linear(
        part, "out_proj", norm(gated, torch.ones(1).double(), config.norm_eps).flatten(1) * part["norm.weight"]
    )


def _attention(config: HybridConfig, part: Part, x: Tensor) -> Tensor:
    q, k, v = (_linear(part, f"{name}_proj", x).view(len(x), -1, config.head_dim) for name in "qkv")
    k, v = (each.repeat_interleave(config.attention_heads // config.kv_heads, 1) for each in (k, v))
    rows = []
    for t in range(len(x)):
        share = (torch.einsum("hd,lhd->hl", q[t], k[: t + 1]) / config.head_dim**0.5).softmax(-1)
        rows.append(torch.einsum("hl,lhd->hd", share, v[: t + 1]).flatten())
    return _linear(part, "o_proj", torch.stack(rows))


def _mlp(config: HybridConfig, part: Part, x: Tensor) -> Tensor:
    return _linear(part, "down_proj", _linear(part, "up_proj", x).relu().pow(2))


def _experts(config: HybridConfig, part: Part, x: Tensor) -> Tensor:
    scores = F.linear(x, part["gate.weight"]).sigmoid()
    narrow = _linear(part, "fc1_latent_proj", x) if config.latent_size else x
    rows = []
    for t in range(len(x)):
        chosen = _chosen(config, scores[t] + part["gate.e_score_correction_bias"])
        weights = scores[t][chosen]
        if config.normalize_weights:
            weights = weights / weights.sum()
        outputs = [_mlp(config, under(part, f"experts.{expert}."), narrow[t]) for expert in chosen]
        rows.append((weights * config.router_scale) @ torch.stack(outputs))
    routed = torch.stack(rows)
    routed = _linear(part, "fc2_latent_proj", routed) if config.latent_size else routed
    return routed + _mlp(config, under(part, "shared_experts."), x) if config.shared_expert_size else routed


def _chosen(config: HybridConfig, choice: Tensor) -> list[int]:
    """The experts with the highest scores, in the groups whose two best sum highest."""
    size = config.experts // config.router_groups
    groups = choice.view(-1, size)
    best = groups.sort(-1).values[:, -2:].sum(-1).sort(descending=True).indices[: config.router_top_groups].tolist()
    experts = [expert for expert in range(config.experts) if expert // size in best]
    return sorted(experts, key=lambda expert: -float(choice[expert]))[: config.experts_per_token]
