"""Name what a Mamba-2 block's step works on: its rows, its memory, its parameters."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Rows:
    """What a step computes, b · q rows, sequence by sequence; rows may lie apart, the numbers of one do not."""

    z: Tensor
    """(b · q, h · p) the gate."""
    xbc: Tensor
    """(b · q, c) what goes into the convolution: x, B, C."""
    dt: Tensor
    """(b · q, h) before softplus."""
    slots: Tensor
    """(b) INT64; -1 is nobody: such rows give zeros, and change nothing."""
    positions: Tensor
    """(b, q) INT64, consecutive in each row."""
    anchors: Tensor
    """(b) INT64, how many tokens each stored state holds; the ring has those since."""


@dataclass(frozen=True, slots=True)
class RingParts:
    """One block's memory of all slots, each tensor contiguous."""

    states: tuple[Tensor, ...]
    """(slot, h, p, n) FP32 or FP16; or INT8, with scales (slot, h, ⌈p·n/128⌉)."""
    before: Tensor
    """(slot, h) FP64, L of the anchor's last token."""
    taps: Tensor
    """(slot, r, c)."""
    xs: Tensor
    """(slot, h, r, p)."""
    Bs: Tensor
    """(slot, g, r, n)."""
    sums: Tensor
    """(slot, h, r) FP64, L."""
    keys: Tensor
    """(slot, h, r) FP64, K."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block's parameters."""

    conv_weight: Tensor
    """(c, k)."""
    conv_bias: Tensor | None
    """(c)."""
    A: Tensor
    """(h), negative."""
    D: Tensor
    """(h)."""
    dt_bias: Tensor
    """(h)."""
    norm: Tensor
    """(h · p)."""
    eps: float
