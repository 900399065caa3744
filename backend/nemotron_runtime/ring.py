"""Keep one Mamba block's states, and beside each the tokens since: what was computed can be cut back to any of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nemotron_kernels.ssd import Rounded
from nemotron_runtime.batch import Span, Window
from nemotron_runtime.places import Commit, Places
from nemotron_runtime.states import Chance, States
from nemotron_runtime.tails import RING


@dataclass(frozen=True, slots=True)
class Tail:
    """Consecutive tokens of one sequence, oldest first, as the scan takes them."""

    x: Tensor
    """(1, h, l, p)."""
    B: Tensor
    """(1, g, l, n)."""
    sums: Tensor
    """(1, h, l) FP64, L."""
    keys: Tensor
    """(1, h, l) FP64, K."""

    def followed_by(self, new: "Tail") -> "Tail":
        """Both, one after the other."""
        return Tail(
            torch.cat([self.x, new.x], 2),
            torch.cat([self.B, new.B], 2),
            torch.cat([self.sums, new.sums], 2),
            torch.cat([self.keys, new.keys], 2),
        )

    def since(self, token: int) -> "Tail":
        """Without the first `token` tokens."""
        return Tail(self.x[:, :, token:], self.B[:, :, token:], self.sums[..., token:], self.keys[..., token:])


@dataclass(frozen=True, slots=True)
class Ring:
    """One Mamba block's part of every slot; the place of a token is its position modulo RING.

    An empty place has K = ∞, which makes it weigh nothing. Letters as in nemotron_kernels.ssd.
    """

    states: States
    """(slot, h, p, n), after the anchor's tokens."""
    before: Tensor
    """(slot, h) FP64, L of the anchor's last token."""
    taps: Tensor
    """(slot, r, c), what went into the convolution."""
    xs: Tensor
    """(slot, h, r, p)."""
    Bs: Tensor
    """(slot, g, r, n)."""
    sums: Tensor
    """(slot, h, r) FP64, L."""
    keys: Tensor
    """(slot, h, r) FP64, K."""

    def commit(self, due: Commit, advance: Callable[..., Tensor]) -> None:
        """Move anchors on by a block, `advance`, and empty the places of its tokens."""
        b = len(due.slots)
        tail = self._tail(due.places, b)
        state, before = self.states.read(due.slots), self.before.index_select(0, due.slots)
        state = advance(state, before, tail.x, tail.B, tail.sums, tail.keys)
        self.states.write(due.slots, state, Chance(due.seeds, due.anchors))
        self.before.index_copy_(0, due.slots, tail.sums[..., -1])
        self.keys.view(-1).index_fill_(0, due.places.heads, torch.inf)

    def rounding(self, seeds: Tensor, anchors: Tensor) -> Rounded:
        """What states some tokens after these anchors, (b), would be as anchors themselves."""
        return lambda state, tokens: self.states.rounded(state, Chance(seeds, anchors + tokens))

    def write_taps(self, window: Window, inputs: Tensor) -> Tensor:
        """Keep a window's inputs, (b · q, c), of the convolution; returns them after the ones before: (b, k-1+q, c)."""
        taps = self.taps.flatten(0, 1)
        taps.index_copy_(0, window.new.taps, inputs)
        return taps.index_select(0, window.taps).view(len(window.positions), -1, taps.shape[1])

    def sums_before(self, window: Window) -> Tensor:
        """(b, h) L of the tokens before the window's."""
        return self.sums.view(-1).index_select(0, window.previous).view(len(window.positions), -1)

    def write(self, places: Places, tokens: Tail) -> None:
        """Put tokens, of b sequences here, into their places."""
        self.xs.flatten(0, 2).index_copy_(0, places.heads, tokens.x.flatten(0, 2))
        self.Bs.flatten(0, 2).index_copy_(0, places.groups, tokens.B.flatten(0, 2))
        self.sums.view(-1).index_copy_(0, places.heads, tokens.sums.flatten())
        self.keys.view(-1).index_copy_(0, places.heads, tokens.keys.flatten())

    def tail(self, span: Span) -> Tail:
        """The tokens between a span's anchor and its start."""
        return self._tail(span.tail, 1)

    def replace(self, span: Span, state: Tensor, inputs: Tensor, tokens: Tail) -> None:
        """Keep what a span leaves: the state (1, h, p, n) at its next anchor, inputs (l, c), and the tokens since.

        `tokens` begin at the span's anchor.
        """
        moved = span.next_anchor - span.anchor
        if moved:
            self.states.write(span.slots, state, Chance(span.seeds, span.anchors + moved))
            self.before[span.slot] = tokens.sums[0, :, moved - 1]
            # What is cut back to the anchor begins with a window, which looks for this behind it.
            self.sums[span.slot, :, (span.next_anchor - 1) % RING] = tokens.sums[0, :, moved - 1]
        self.taps.flatten(0, 1).index_copy_(0, span.last_taps, inputs[-len(span.last_taps) :])
        self.keys[span.slot] = torch.inf
        self.write(span.kept, tokens.since(moved))

    def _tail(self, places: Places, b: int) -> Tail:
        h, g = self.xs.shape[1], self.Bs.shape[1]
        return Tail(
            self.xs.flatten(0, 2).index_select(0, places.heads).view(b, h, -1, self.xs.shape[3]),
            self.Bs.flatten(0, 2).index_select(0, places.groups).view(b, g, -1, self.Bs.shape[3]),
            self.sums.view(-1).index_select(0, places.heads).view(b, h, -1),
            self.keys.view(-1).index_select(0, places.heads).view(b, h, -1),
        )
