"""Turn a step's slices into the index tensors that the model's layers share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import numpy as np
import torch
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig
from nemotron_runtime import places
from nemotron_runtime.noise import MASK64
from nemotron_runtime.places import Commit, Places
from nemotron_runtime.scheduler import Slice
from nemotron_runtime.tails import RING, WINDOW


@dataclass(frozen=True, slots=True)
class Window:
    """The same few new tokens, q, of each of b sequences, computed together; b · q rows, sequence by sequence."""

    rows: slice
    count: int
    """q."""
    slots: Tensor | slice
    """(b)."""
    seeds: Tensor
    """(b) what decides how states are rounded."""
    positions: Tensor
    """(b, q)."""
    tables: Tensor
    """(b, n) page ids, as many as the longest sequence needs."""
    anchors: Tensor
    """(b) where the tails begin."""
    commit: Commit | None
    """What is due before the window is computed."""
    new: Places
    previous: Tensor
    """(b · h) rows of the tokens before the new ones."""
    taps: Tensor
    """(b · (k-1+q)) rows of the new tokens and those the convolution sees before them."""
    hidden: Tensor | None
    """(b, 1, q, r) places to be ignored; none where every place that holds a token counts."""


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive tokens of one sequence, from position `start`; it moves the anchor within what it computes."""

    rows: slice
    slot: int
    slots: Tensor
    """(1) the same, as the device takes it."""
    seeds: Tensor
    """(1) what decides how states are rounded."""
    anchors: Tensor
    """(1) where the tail begins."""
    start: int
    stop: int
    anchor: int
    next_anchor: int
    table: Tensor
    tail: Places
    """The tokens from the anchor to the start, in order."""
    kept: Places
    """The tokens from the next anchor to the end."""
    taps_before: Tensor
    """(k-1) rows of what the convolution sees before the first token."""
    last_taps: Tensor
    """Rows of as many of the last tokens as the ring has room for."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's tokens, those of all slices one after the other."""

    tokens: Tensor
    cells: Tensor
    """(t) where each token's key and value go."""
    windows: tuple[Window, ...]
    spans: tuple[Span, ...]
    yields: Tensor
    """Rows whose logits are wanted."""


def first_rows(slices: Sequence[Slice]) -> Iterator[int]:
    """Where each slice's tokens begin when they are computed as a batch."""
    return accumulate((piece.tokens for piece in slices[:-1]), initial=0)


def build(slices: Sequence[Slice], config: HybridConfig, page_tokens: int) -> Batch:
    """The batch of slices that are ordered by their number of tokens."""
    tokens: list[int] = []
    cells: list[int] = []
    yields: list[int] = []
    windows: list[Window] = []
    spans: list[Span] = []
    for count, group in groupby(slices, key=lambda piece: piece.tokens):
        alike = list(group)
        for piece in alike:
            if piece.is_last:
                yields += range(len(tokens) + piece.confirmed - 1, len(tokens) + count)
            tokens += piece.ids
            cells += _cells(piece, page_tokens)
            if count > WINDOW:
                spans.append(_span(piece, len(tokens) - count, config, page_tokens))
        if count <= WINDOW:
            windows.append(_window(alike, len(tokens) - count * len(alike), config, page_tokens))
    return Batch(
        tokens=torch.tensor(tokens),
        cells=torch.tensor(cells),
        windows=tuple(windows),
        spans=tuple(spans),
        yields=torch.tensor(yields, dtype=torch.long),
    )


def _cells(piece: Slice, page_tokens: int) -> list[int]:
    pages = piece.lease.pages
    positions = range(piece.start, piece.stop)
    return [pages[position // page_tokens] * page_tokens + position % page_tokens for position in positions]


def _window(pieces: Sequence[Slice], row: int, config: HybridConfig, page_tokens: int) -> Window:
    count = pieces[0].tokens
    slots, starts, anchors = np.array([(p.lease.slot, p.start, p.next_anchor) for p in pieces]).T
    positions = starts[:, None] + np.arange(count)
    moving = [piece for piece in pieces if piece.next_anchor > piece.lease.anchor]
    plain = count == 1 and all(piece.lease.written <= piece.start for piece in pieces)
    return Window(
        rows=slice(row, row + len(pieces) * count),
        count=count,
        slots=_consecutive(slots) or torch.from_numpy(slots.copy()),
        seeds=seeds(pieces),
        positions=torch.from_numpy(positions),
        tables=tables([piece.lease.pages for piece in pieces], max(piece.stop for piece in pieces), page_tokens),
        anchors=torch.from_numpy(anchors.copy()),
        commit=places.commit(config, [p.lease.slot for p in moving], [p.lease.anchor for p in moving], seeds(moving)),
        new=places.places(config, slots, positions),
        previous=places.rows(slots, starts[:, None] - 1, config.mamba_heads),
        taps=places.taps(slots, starts[:, None] + np.arange(1 - config.conv_kernel, count)),
        hidden=None if plain else places.hidden(anchors, starts + count, positions),
    )


def _span(piece: Slice, row: int, config: HybridConfig, page_tokens: int) -> Span:
    slot, anchor, next_anchor = np.array([piece.lease.slot]), piece.lease.anchor, piece.next_anchor
    start, stop = piece.start, piece.stop
    return Span(
        rows=slice(row, row + piece.tokens),
        slot=piece.lease.slot,
        slots=torch.from_numpy(slot),
        seeds=seeds([piece]),
        anchors=torch.tensor([anchor]),
        start=start,
        stop=stop,
        anchor=anchor,
        next_anchor=next_anchor,
        table=tables([piece.lease.pages], stop, page_tokens)[0],
        tail=places.places(config, slot, np.arange(anchor, start)[None]),
        kept=places.places(config, slot, np.arange(next_anchor, stop)[None]),
        taps_before=places.taps(slot, np.arange(start - config.conv_kernel + 1, start)[None]),
        last_taps=places.taps(slot, np.arange(max(start, stop - RING), stop)[None]),
    )


def seeds(pieces: Sequence[Slice]) -> Tensor:
    """(b) the lowest 64 bits of the requests' seeds."""
    seeds = [piece.request.sampling.seed & MASK64 for piece in pieces]
    return torch.from_numpy(np.array(seeds, dtype=np.uint64).view(np.int64))


def _consecutive(slots: places.Numbers) -> slice | None:
    """The numbers as a slice, which needs no copy, if they are one."""
    first, count = int(slots[0]), len(slots)
    return slice(first, first + count) if (slots == np.arange(first, first + count)).all() else None


def tables(pages: Sequence[Sequence[int]], tokens: int, page_tokens: int) -> Tensor:
    """(b, n) the first pages of each, as many as `tokens` fill; 0, nobody's, where a sequence has fewer."""
    tables = np.zeros((len(pages), -(-tokens // page_tokens)), dtype=np.int64)
    for table, row in zip(tables, pages, strict=True):
        # An array is copied as it is: a list of the pages of a long text takes longer than many a layer.
        known = np.asarray(row)[: len(table)]
        table[: len(known)] = known
    return torch.from_numpy(tables)
