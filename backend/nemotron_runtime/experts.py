"""The mixers without memory: an MLP, and a mixture of them."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig
from nemotron_kernels.moe import MOST_TOKENS, Shared, moe_few_tokens, moe_grouped
from nemotron_kernels.router import router, router_fused
from nemotron_runtime.arithmetic import Arithmetic
from nemotron_runtime.batch import Batch
from nemotron_runtime.memory import Memory
from nemotron_runtime.weights import Linear, Weights


@dataclass(frozen=True, slots=True)
class Mlp:
    """down(relu(up(x))²), without a gate."""

    up: Linear
    down: Linear

    def __call__(self, x: Tensor, batch: Batch, memory: Memory) -> Tensor:
        """x: (t, d) → (t, d)."""
        return self.run(x)

    def run(self, x: Tensor) -> Tensor:
        return self.down(F.relu(self.up(x)).square())


@dataclass(frozen=True, slots=True)
class Experts:
    """Routed experts, in a narrower latent space where the model has one, beside a shared expert at full width."""

    config: HybridConfig
    arithmetic: Arithmetic
    gate: Tensor
    correction_bias: Tensor
    up: Tensor
    down: Tensor
    to_latent: Linear | None
    from_latent: Linear | None
    shared: Mlp | None

    def __call__(self, x: Tensor, batch: Batch, memory: Memory) -> Tensor:
        """x: (t, d) → (t, d). The router and the shared expert see x at full width."""
        if self._fits(x):
            return self._few(x)
        ids, weights = self._route(x)
        routed = moe_grouped(
            self.to_latent(x) if self.to_latent else x, ids, weights, self.up, self.down, self.arithmetic.linear
        )
        routed = self.from_latent(routed) if self.from_latent else routed
        return routed + self.shared.run(x) if self.shared else routed

    def _fits(self, x: Tensor) -> bool:
        """Whether the fused kernels do what this block does: without groups of experts, and without biases."""
        config, shared = self.config, self.shared
        is_plain = config.router_top_groups >= config.router_groups and x.dtype == self.up.dtype
        has_biases = shared is not None and not (shared.up.bias is None and shared.down.bias is None)
        return self.arithmetic.is_fused and len(x) <= MOST_TOKENS and is_plain and not has_biases

    def _few(self, x: Tensor) -> Tensor:
        """The same in three launches, and those of the latent projections."""
        config = self.config
        k, scale, normalize = config.experts_per_token, config.router_scale, config.normalize_weights
        ids, weights = router_fused(x, self.gate, self.correction_bias, k=k, scale=scale, normalize=normalize)
        shared = Shared(x, self.shared.up.weight, self.shared.down.weight) if self.shared else None
        rows, together = self.to_latent(x) if self.to_latent else x, self.to_latent is None
        routed, beside = moe_few_tokens(rows, ids, weights, self.up, self.down, shared, together=together)
        routed = self.from_latent(routed) if self.from_latent else routed
        return routed if beside is None else routed + beside

    def _route(self, x: Tensor) -> tuple[Tensor, Tensor]:
        config = self.config
        return router(
            x,
            self.gate,
            self.correction_bias,
            k=config.experts_per_token,
            groups=config.router_groups,
            top_groups=config.router_top_groups,
            scale=config.router_scale,
            normalize=config.normalize_weights,
            linear=self.arithmetic.linear,
            sigmoid=self.arithmetic.sigmoid,
        )


def build_mlp(weights: Weights) -> Mlp:
    return Mlp(weights.linear("up_proj"), weights.linear("down_proj"))


def build_experts(config: HybridConfig, arithmetic: Arithmetic, weights: Weights) -> Experts:
    return Experts(
        config=config,
        arithmetic=arithmetic,
        gate=weights.tensor("gate.weight"),
        correction_bias=weights.tensor("gate.e_score_correction_bias"),
        up=weights.tensor("experts.up_proj"),
        down=weights.tensor("experts.down_proj"),
        to_latent=weights.linear("fc1_latent_proj") if config.latent_size else None,
        from_latent=weights.linear("fc2_latent_proj") if config.latent_size else None,
        shared=build_mlp(weights.under("shared_experts")) if config.shared_expert_size else None,
    )
