"""Choose how to compute: as is fastest, or so that a token's bits are the same in any company (tier E1)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nemotron_kernels.activation import sigmoid, silu, softplus
from nemotron_kernels.linear import linear_in_tiles
from nemotron_kernels.paged_attention import attend_in_splits, attend_span, attend_window, attend_window_in_parts
from nemotron_kernels.reduction import mean, mean_by_halves
from nemotron_kernels.ssd import Rounded, in_units, ssd_advance, ssd_scan, ssd_window, unrounded
from nemotron_runtime.batch import Span, Window
from nemotron_runtime.ring import Ring, Tail
from nemotron_runtime.tails import BLOCK, RING


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """The operations whose bits may depend on what else is computed; all others are row by row.

    Either their sums are ordered by shape, or, of the functions, the end of a tensor is computed in another way.
    """

    linear: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    """x: (t, inputs), weight: (outputs, inputs), bias → (t, outputs)."""
    window: Callable[[Ring, Window, Tensor, Tensor], Tensor]
    """The recurrence of a window whose tokens are in the ring; C: (b, g, q, n), L: (b, h, q) → (b, h, q, p)."""
    scan: Callable[[Ring, Span, Tail, Tensor, int], tuple[Tensor, Tensor]]
    """The recurrence of one sequence: the tokens since its anchor, C for each, and the model's chunk size → y
    (1, h, l, p) and the state at its next anchor, not yet rounded as it will be stored."""
    attend_window: Callable[[Tensor, Tensor, Tensor, Window], Tensor]
    """queries: (b · q, heads, d), keys, values: (pages, s, k, d) → as queries."""
    attend_span: Callable[[Tensor, Tensor, Tensor, Span], Tensor]
    """The same for (l, heads, d)."""
    silu: Callable[[Tensor], Tensor]
    softplus: Callable[[Tensor], Tensor]
    sigmoid: Callable[[Tensor], Tensor]
    addends: Callable[[Tensor], Tensor]
    """FP64 log decays, as they are to be added up."""
    mean: Callable[[Tensor], Tensor]
    """(…, n) → (…, 1)."""
    advance: Callable[..., Tensor]
    """As `ssd_advance`."""
    is_fused: bool = False
    """Whether blocks take Triton's fused kernels where they fit: for windows, and for a few tokens' experts."""


def _window(ring: Ring, window: Window, C: Tensor, sums: Tensor) -> Tensor:
    slots = window.slots
    rings = (ring.states.read(slots), ring.before[slots], ring.xs[slots], ring.Bs[slots], ring.keys[slots])
    return ssd_window(*rings, C, sums, window.hidden)


def _window_in_blocks(ring: Ring, window: Window, C: Tensor, sums: Tensor) -> Tensor:
    """The blocks since the anchor, whatever of them is new; tokens after the ones asked for change nothing.

    A state is rounded after every block, as it would be if the anchor were there.
    """
    slots, b = window.slots, len(window.positions)
    place = (window.anchors[:, None] + torch.arange(RING, device=C.device)) % RING
    rows = torch.arange(b, device=C.device)[:, None]
    x, B = (part[slots].transpose(1, 2)[rows, place].transpose(1, 2) for part in (ring.xs, ring.Bs))
    logs = [part[slots].transpose(1, 2)[rows, place].transpose(1, 2) for part in (ring.sums, ring.keys)]
    asked = window.positions - window.anchors[:, None]
    padded = C.new_zeros(b, RING, C.shape[1], C.shape[3])
    padded[rows, asked] = C.transpose(1, 2)
    state, before, C = ring.states.read(slots), ring.before[slots], padded.transpose(1, 2)
    y = torch.cat(
        [
            ssd_scan(*parts, chunk=BLOCK, rounded=ring.rounding(seed, anchor))[0]
            for *parts, seed, anchor in _each(state, before, x, B, C, *logs, window.seeds, window.anchors)
        ]
    )
    return y.transpose(1, 2)[rows, asked].transpose(1, 2)


def _advance_each(*parts: Tensor) -> Tensor:
    return torch.cat([ssd_advance(*of_one) for of_one in _each(*parts)])


def _each(*parts: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Sequence by sequence: libraries choose their order of summation by how many matrices there are, too."""
    # Copies begin where an allocation does, whichever sequence it is.
    return zip(*(map(Tensor.clone, torch.split(part, 1)) for part in parts), strict=True)


def _scan(
    ring: Ring, span: Span, tokens: Tail, C: Tensor, chunk: int, rounded: Rounded = unrounded
) -> tuple[Tensor, Tensor]:
    only = slice(span.slot, span.slot + 1)
    state, before, cut = ring.states.read(only), ring.before[only], span.next_anchor - span.anchor
    outputs, after = [], state
    if cut:
        first = (
            tokens.x[:, :, :cut],
            tokens.B[:, :, :cut],
            C[:, :, :cut],
            tokens.sums[..., :cut],
            tokens.keys[..., :cut],
        )
        y, after = ssd_scan(state, before, *first, chunk=chunk, rounded=rounded)
        outputs, before, state = [y], tokens.sums[..., cut - 1], rounded(after, cut)
    if (rest := tokens.since(cut)).x.shape[2]:
        last = rest.x, rest.B, C[:, :, cut:], rest.sums, rest.keys
        y, _ = ssd_scan(state, before, *last, chunk=chunk, rounded=lambda state, token: rounded(state, cut + token))
        outputs.append(y)
    return torch.cat(outputs, dim=2), after


def _scan_in_blocks(ring: Ring, span: Span, tokens: Tail, C: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """The same in whole blocks, whatever `chunk`; what fills the last one comes after every token.

    A state is rounded after every block, as it would be if the sequence were cut there.
    """
    length, fill = C.shape[2], -C.shape[2] % BLOCK
    x, B, C = (F.pad(each, (0, 0, 0, fill)) for each in (tokens.x, tokens.B, C))
    sums = torch.cat([tokens.sums, tokens.sums[..., -1:].expand(-1, -1, fill)], -1)
    whole = Tail(x, B, sums, F.pad(tokens.keys, (0, fill), value=torch.inf))
    y, state = _scan(ring, span, whole, C, BLOCK, ring.rounding(span.seeds, span.anchors))
    return y[:, :, :length], state


def _attend_window(queries: Tensor, keys: Tensor, values: Tensor, window: Window) -> Tensor:
    shaped = queries.view(*window.positions.shape, *queries.shape[1:])
    return attend_window(shaped, keys, values, window.tables, window.positions).flatten(0, 1)


def _attend_window_in_splits(queries: Tensor, keys: Tensor, values: Tensor, window: Window) -> Tensor:
    tables = window.tables.repeat_interleave(window.count, dim=0)
    return attend_in_splits(queries, keys, values, tables, window.positions.flatten())


def _attend_window_in_parts(queries: Tensor, keys: Tensor, values: Tensor, window: Window) -> Tensor:
    shaped = queries.view(*window.positions.shape, *queries.shape[1:])
    return attend_window_in_parts(shaped, keys, values, window.tables, window.positions).flatten(0, 1)


def _attend_span(queries: Tensor, keys: Tensor, values: Tensor, span: Span) -> Tensor:
    return attend_span(queries, keys, values, span.table, span.start)


def _attend_span_in_splits(queries: Tensor, keys: Tensor, values: Tensor, span: Span) -> Tensor:
    tables, positions = span.table.expand(len(queries), -1), torch.arange(span.start, span.stop, device=queries.device)
    return attend_in_splits(queries, keys, values, tables, positions)


FAST = Arithmetic(
    F.linear,
    _window,
    _scan,
    _attend_window,
    _attend_span,
    F.silu,
    F.softplus,
    torch.sigmoid,
    Tensor.double,
    mean,
    ssd_advance,
)
TRITON = replace(FAST, attend_window=_attend_window_in_parts, is_fused=True)
EXACT = Arithmetic(
    linear_in_tiles,
    _window_in_blocks,
    _scan_in_blocks,
    _attend_window_in_splits,
    _attend_span_in_splits,
    silu,
    softplus,
    sigmoid,
    in_units,
    mean_by_halves,
    _advance_each,
)
