"""Turn a step's slices into the index tensors that the model's layers share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nemotron_runtime.memory import Memory
from nemotron_runtime.scheduler import Slice


@dataclass(frozen=True, slots=True)
class Singles:
    """The rows 0 … b-1 of the batch: one token of each of b sequences, computed together."""

    count: int
    slots: Tensor
    lengths: Tensor
    """(b) tokens of each sequence, with this one."""
    tables: Tensor
    """(b, n) page ids, as many as the longest sequence needs."""


@dataclass(frozen=True, slots=True)
class Span:
    """The rows `rows` of the batch: consecutive tokens of one sequence, from position `start`."""

    rows: slice
    slot: int
    start: int
    table: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's tokens, those of all slices one after the other."""

    tokens: Tensor
    cells: Tensor
    """(t) where each token's key and value go."""
    singles: Singles | None
    spans: tuple[Span, ...]
    yields: Tensor
    """Rows whose logits are wanted, one per slice that is its request's last."""


def build(slices: Sequence[Slice], memory: Memory) -> Batch:
    """The batch of slices that are ordered single tokens first."""
    page_tokens = memory.keys.shape[2]
    tokens: list[int] = []
    slots: list[int] = []
    positions: list[int] = []
    yields: list[int] = []
    for piece in slices:
        stop = piece.start + piece.tokens
        tokens += piece.request.tokens[piece.start : stop]
        slots += [piece.request.held.slot] * piece.tokens
        positions += range(piece.start, stop)
        if piece.is_last:
            yields.append(len(tokens) - 1)
    slot, position = torch.tensor(slots), torch.tensor(positions)
    page = memory.tables[slot, position // page_tokens]
    return Batch(
        tokens=torch.tensor(tokens),
        cells=page * page_tokens + position % page_tokens,
        singles=_singles(slices, slot, position, memory),
        spans=_spans(slices, memory),
        yields=torch.tensor(yields, dtype=torch.long),
    )


def _singles(slices: Sequence[Slice], slot: Tensor, position: Tensor, memory: Memory) -> Singles | None:
    count = sum(piece.tokens == 1 for piece in slices)
    if not count:
        return None
    longest = 1 + max(piece.start for piece in slices[:count])
    slots = slot[:count]
    return Singles(count, slots, position[:count] + 1, memory.tables[slots, : _pages(longest, memory)])


def _spans(slices: Sequence[Slice], memory: Memory) -> tuple[Span, ...]:
    spans, row = [], 0
    for piece in slices:
        if piece.tokens > 1:
            slot, stop = piece.request.held.slot, piece.start + piece.tokens
            table = memory.tables[slot, : _pages(stop, memory)]
            spans.append(Span(slice(row, row + piece.tokens), slot, piece.start, table))
        row += piece.tokens
    return tuple(spans)


def _pages(tokens: int, memory: Memory) -> int:
    return -(-tokens // memory.keys.shape[2])
