"""A Mamba-2 block's mixer."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig
from nemotron_kernels.causal_conv1d import causal_conv1d
from nemotron_kernels.gated_rms_norm import gated_rms_norm
from nemotron_kernels.mamba_step import Block, RingParts, Rows, can_commit, commit_fused, mamba_step_fused
from nemotron_kernels.ssd import log_decays
from nemotron_runtime.arithmetic import Arithmetic
from nemotron_runtime.batch import Batch, Span, Window
from nemotron_runtime.memory import Memory
from nemotron_runtime.ring import Ring, Tail
from nemotron_runtime.tails import BLOCK, MOST_OLD
from nemotron_runtime.weights import Linear, Weights


@dataclass(frozen=True, slots=True)
class Mamba:
    """in_proj → z | x, B, C | dt; convolution over x, B, C; the recurrence; the norm gated by z; out_proj."""

    config: HybridConfig
    arithmetic: Arithmetic
    layer: int
    """Its place among the Mamba blocks, which finds its ring."""
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
        config, ring = self.config, memory.rings[self.layer]
        z, xbc, dt = torch.split(self.in_proj(x), [config.d_inner, config.conv_dim, config.mamba_heads], dim=-1)
        if self.arithmetic.is_fused:
            parts = [self._fused(z, xbc, dt, window, ring) for window in batch.windows]
            parts += [self._normed(self._span(xbc[s.rows], dt[s.rows], s, ring), z[s.rows]) for s in batch.spans]
            return self.out_proj(_together(parts))
        outputs = [self._window(xbc[window.rows], dt[window.rows], window, ring) for window in batch.windows]
        outputs += [self._span(xbc[span.rows], dt[span.rows], span, ring) for span in batch.spans]
        return self.out_proj(self._normed(_together(outputs), z))

    def _normed(self, y: Tensor, z: Tensor) -> Tensor:
        config, silu, mean = self.config, self.arithmetic.silu, self.arithmetic.mean
        return gated_rms_norm(y, z, self.norm, groups=config.groups, eps=config.norm_eps, silu=silu, mean=mean)

    def _fused(self, z: Tensor, xbc: Tensor, dt: Tensor, window: Window, ring: Ring) -> Tensor:
        """z, xbc, dt: (t, …) of all rows → (b · q, h · p) of the window's, after the norm."""
        at, due = window.slots, window.commit
        slots = _numbered(at.start, at.stop, z.device) if isinstance(at, slice) else at
        here = window.rows
        rows = Rows(z[here], xbc[here], dt[here], slots, window.positions, window.anchors)
        parts = RingParts(ring.states.parts, ring.before, ring.taps, ring.xs, ring.Bs, ring.sums, ring.keys)
        if due and can_commit(parts):
            commit_fused(parts, due.slots, due.seeds, due.anchors, layer=ring.states.layer, tokens=BLOCK)
        elif due:
            ring.commit(due, self.arithmetic.advance)
        convolution = self.conv_weight, self.conv_bias
        block = Block(*convolution, self.A, self.D, self.dt_bias, self.norm, self.config.norm_eps)
        return mamba_step_fused(rows, parts, block, most_old=MOST_OLD)

    def _window(self, xbc: Tensor, dt: Tensor, window: Window, ring: Ring) -> Tensor:
        """xbc: (b · q, c), dt: (b · q, h) → (b · q, h · p)."""
        if window.commit:
            ring.commit(window.commit, self.arithmetic.advance)
        x, B, C = self._split(
            causal_conv1d(ring.write_taps(window, xbc), self.conv_weight, self.conv_bias, self.arithmetic.silu)
        )
        dt = dt.view(len(x), window.count, -1)
        sums, keys = log_decays(
            ring.sums_before(window), dt, self.A, self.dt_bias, self.arithmetic.softplus, self.arithmetic.addends
        )
        ring.write(window.new, Tail(x, B, sums, keys))
        y = self.arithmetic.window(ring, window, C, sums).addcmul(x, self.D[:, None, None])
        return y.transpose(1, 2).reshape(len(xbc), -1)

    def _span(self, xbc: Tensor, dt: Tensor, span: Span, ring: Ring) -> Tensor:
        """xbc: (l, c), dt: (l, h) → (l, h · p)."""
        inputs = torch.cat([ring.taps.flatten(0, 1).index_select(0, span.taps_before), xbc])
        x, B, C = self._split(causal_conv1d(inputs, self.conv_weight, self.conv_bias, self.arithmetic.silu)[None])
        tail, old = ring.tail(span), span.start - span.anchor
        before = tail.sums[..., -1] if old else ring.before[span.slot, None]
        sums, keys = log_decays(
            before, dt[None], self.A, self.dt_bias, self.arithmetic.softplus, self.arithmetic.addends
        )
        tokens = tail.followed_by(Tail(x, B, sums, keys))
        # What the old tokens give is known already, so it does not matter what they ask for.
        C = torch.cat([C.new_zeros(1, C.shape[1], old, C.shape[3]), C], 2)
        y, state = self.arithmetic.scan(ring, span, tokens, C, self.config.chunk_size)
        ring.replace(span, state, xbc, tokens)
        y = y[:, :, old:].addcmul(x, self.D[:, None, None])
        return y[0].transpose(0, 1).flatten(1)

    def _split(self, xbc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, t, channels) → x: (b, h, t, p), B, C: (b, g, t, n)."""
        config = self.config
        of_group = config.groups * config.state_size
        x, B, C = torch.split(xbc, [config.d_inner, of_group, of_group], dim=-1)
        groups = (*xbc.shape[:2], config.groups, config.state_size)
        x = x.view(*xbc.shape[:2], config.mamba_heads, config.mamba_head_dim)
        return x.transpose(1, 2), B.view(groups).transpose(1, 2), C.view(groups).transpose(1, 2)


def _together(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


@lru_cache
def _numbered(start: int, stop: int, device: torch.device) -> Tensor:
    """Slots that follow each other, as a kernel takes them: kept, as every block of every step asks for the same."""
    return torch.arange(start, stop, device=device)


def build(config: HybridConfig, arithmetic: Arithmetic, layer: int, weights: Weights) -> Mamba:
    return Mamba(
        config=config,
        arithmetic=arithmetic,
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
