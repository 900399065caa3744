"""Step sequence by sequence and token by token: convolution, recurrence from anchor and ring, gated norm."""

import torch
from torch import Tensor

from nemotron_kernels.causal_conv1d import causal_conv1d
from nemotron_kernels.gated_rms_norm import gated_rms_norm
from nemotron_kernels.mamba_step.arguments import Block, RingParts, Rows
from nemotron_kernels.ssd import log_decays, ssd_window
from nemotron_kernels.stochastic_rounding import from_bytes


def mamba_step(rows: Rows, ring: RingParts, block: Block) -> Tensor:
    """(b · q, h · p) in the gate's dtype, after the norm; the ring then holds the new tokens, too."""
    q = rows.positions.shape[1]
    out = torch.zeros_like(rows.z)
    for b, slot in enumerate(rows.slots.tolist()):
        for i in range(q if slot >= 0 else 0):
            out[b * q + i] = _token(rows, ring, block, b * q + i, slot, int(rows.positions[b, i]), int(rows.anchors[b]))
    return out


def _token(rows: Rows, ring: RingParts, block: Block, row: int, slot: int, position: int, anchor: int) -> Tensor:
    (_, h, r, p), (_, g, _, n) = ring.xs.shape, ring.Bs.shape
    k, here = block.conv_weight.shape[1], position % r
    ring.taps[slot, here] = rows.xbc[row]
    seen = ring.taps[slot, [(position - k + 1 + j) % r for j in range(k)]]
    x, B, C = torch.split(causal_conv1d(seen, block.conv_weight, block.conv_bias)[0], [h * p, g * n, g * n])
    L, K = log_decays(ring.sums[slot, None, :, (position - 1) % r], rows.dt[row].view(1, 1, h), block.A, block.dt_bias)
    ring.xs[slot, :, here], ring.Bs[slot, :, here] = x.view(h, p), B.view(g, n)
    ring.sums[slot, :, here], ring.keys[slot, :, here] = L[0, :, 0], K[0, :, 0]

    tail = [token % r for token in range(anchor, position + 1)]
    inputs = ring.xs[slot, None, :, tail], ring.Bs[slot, None, :, tail], ring.keys[slot, None, :, tail]
    state = _read(ring.states, slot)
    y = ssd_window(state[None], ring.before[slot, None], *inputs, C.view(1, g, 1, n), L)
    y = y[0, :, 0].addcmul(x.view(h, p), block.D[:, None]).flatten()
    return gated_rms_norm(y, rows.z[row], block.norm, groups=g, eps=block.eps)


def _read(states: tuple[Tensor, ...], slot: int) -> Tensor:
    """(h, p, n) FP32."""
    values, *scales = (part[slot] for part in states)
    return from_bytes(values.flatten(1), scales[0]).view(values.shape) if scales else values.float()
