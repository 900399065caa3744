"""A Mamba-2 block's mixer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig
from nemotron_kernels.causal_conv1d import causal_conv1d, causal_conv1d_step
from nemotron_kernels.gated_rms_norm import gated_rms_norm
from nemotron_kernels.selective_state_update import selective_state_update
from nemotron_kernels.ssd import ssd_chunk
from nemotron_runtime.batch import Batch, Singles, Span
from nemotron_runtime.memory import Memory
from nemotron_runtime.weights import Linear, Weights


@dataclass(frozen=True, slots=True)
class Mamba:
    """in_proj → z | x, B, C | dt; convolution over x, B, C; the recurrence; the norm gated by z; out_proj."""

    config: HybridConfig
    layer: int
    """Its place among the Mamba blocks, which finds its state in a slot."""
    in_proj: Linear
    conv_weight: Tensor
    conv_bias: Tensor | None
    A: Tensor
    D: Tensor
    dt_bias: Tensor
    norm: Tensor
    out_proj: Linear

    def __call__(self, x: Tensor, batch: Batch, memory: Memory) -> Tensor:
        """x: (t, d) → (t, d). Advances the states of the batch's sequences."""
        config = self.config
        z, xbc, dt = torch.split(self.in_proj(x), [config.d_inner, config.conv_dim, config.mamba_heads], dim=-1)
        outputs = []
        if batch.singles:
            rows = slice(0, batch.singles.count)
            outputs.append(self._step(xbc[rows], dt[rows], batch.singles, memory))
        outputs += [self._scan(xbc[span.rows], dt[span.rows], span, memory) for span in batch.spans]
        y = torch.cat(outputs).flatten(1)
        return self.out_proj(gated_rms_norm(y, z, self.norm, groups=config.groups, eps=config.norm_eps))

    def _step(self, xbc: Tensor, dt: Tensor, singles: Singles, memory: Memory) -> Tensor:
        """One token of each of b sequences → (b, h, p)."""
        all_taps, all_states = memory.taps[:, self.layer], memory.states[:, self.layer]
        xbc, taps = causal_conv1d_step(xbc, self.conv_weight, self.conv_bias, all_taps.index_select(0, singles.slots))
        x, B, C = self._split(xbc)
        state = all_states.index_select(0, singles.slots)
        y, state = selective_state_update(state, x, dt, self.A, B, C, self.D, self.dt_bias)
        all_taps.index_copy_(0, singles.slots, taps)
        all_states.index_copy_(0, singles.slots, state)
        return y

    def _scan(self, xbc: Tensor, dt: Tensor, span: Span, memory: Memory) -> Tensor:
        """Consecutive tokens of one sequence → (l, h, p)."""
        taps, state = memory.taps[span.slot, self.layer], memory.states[span.slot, self.layer]
        xbc, next_taps = causal_conv1d(xbc, self.conv_weight, self.conv_bias, taps)
        x, B, C = self._split(xbc)
        chunk = self.config.chunk_size
        y, next_state = ssd_chunk(state, x, dt, self.A, B, C, self.D, self.dt_bias, chunk=chunk)
        taps.copy_(next_taps)
        state.copy_(next_state)
        return y

    def _split(self, xbc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(t, channels) → x: (t, h, p), B, C: (t, g, n)."""
        config = self.config
        of_group = config.groups * config.state_size
        x, B, C = torch.split(xbc, [config.d_inner, of_group, of_group], dim=-1)
        groups = (-1, config.groups, config.state_size)
        return x.reshape(-1, config.mamba_heads, config.mamba_head_dim), B.reshape(groups), C.reshape(groups)


def build(config: HybridConfig, layer: int, weights: Weights) -> Mamba:
    return Mamba(
        config=config,
        layer=layer,
        in_proj=weights.linear("in_proj"),
        conv_weight=weights.tensor("conv1d.weight"),
        conv_bias=weights.maybe("conv1d.bias"),
        A=-weights.tensor("A_log").exp(),
        D=weights.tensor("D"),
        dt_bias=weights.tensor("dt_bias"),
        norm=weights.tensor("norm.weight"),
        out_proj=weights.linear("out_proj"),
    )
