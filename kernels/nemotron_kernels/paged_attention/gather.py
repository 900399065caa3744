"""Gather the pages, then call torch's fused attention."""

import torch
import torch.nn.functional as F
from torch import Tensor

from nemotron_kernels.paged_attention.blocks import attend_in_blocks
from nemotron_kernels.paged_attention.store import raw

GATHERED_BYTES = 8 << 20
"""Of keys and values of all sequences: more do not stay near the processor until they are read."""
SMALL_BYTES = 512 << 10
"""Of one sequence's: the calls that reading them where they lie takes cost more than a copy of so many (80 µs)."""


def attend_window(queries: Tensor, keys: Tensor, values: Tensor, tables: Tensor, positions: Tensor) -> Tensor:
    """m queries of each of b sequences, after their own keys were written: a decode step, with drafts or without.

    queries: (b, m, q, d), keys, values: (pages, s, k, d), tables: (b, n), positions: (b, m) in the sequence.
    Returns (b, m, q, d). Pages beyond a sequence's length may be anyone's but must hold finite numbers.
    Much on the host is read where it lies; little is gathered in one piece, which takes fewer calls.
    """
    if keys.device.type == "cpu" and _is_much(2 * tables.shape[1] * keys[0].nbytes, len(tables)):
        return attend_in_blocks(queries, keys, values, tables, positions)
    b, m, q, d = queries.shape
    k, v = _gather(keys, tables, queries.dtype), _gather(values, tables, queries.dtype)
    seen = torch.arange(k.shape[2], device=k.device) <= positions[..., None]
    # The queries that share a key head stand below each other: (b, k, q/k · m, d).
    grouped = queries.view(b, m, k.shape[1], -1, d).permute(0, 2, 3, 1, 4).reshape(b, k.shape[1], -1, d)
    mask = seen[:, None, None].expand(-1, -1, q // k.shape[1], -1, -1).flatten(2, 3)
    out = F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask)
    return out.view(b, k.shape[1], -1, m, d).permute(0, 3, 1, 2, 4).reshape(b, m, q, d)


def attend_span(queries: Tensor, keys: Tensor, values: Tensor, table: Tensor, start: int) -> Tensor:
    """l consecutive queries of one sequence, after their keys were written: a prefill chunk that begins at `start`.

    queries: (l, q, d), keys, values: (pages, s, k, d), table: (n) → (l, q, d).
    """
    stop = start + queries.shape[0]
    k, v = (_gather(pages, table[None], queries.dtype)[:, :, :stop] for pages in (keys, values))
    positions = torch.arange(stop, device=k.device)
    seen = positions[None] <= positions[start:, None]
    out = F.scaled_dot_product_attention(queries.transpose(0, 1)[None], k, v, attn_mask=seen, enable_gqa=True)
    return out[0].transpose(0, 1)


def _is_much(sequence_bytes: int, sequences: int) -> bool:
    return sequence_bytes > SMALL_BYTES and sequences * sequence_bytes > GATHERED_BYTES


def _gather(pages: Tensor, tables: Tensor, dtype: torch.dtype) -> Tensor:
    """pages: (pages, s, k, d), tables: (b, n) → (b, k, n·s, d)."""
    rows = raw(pages).index_select(0, tables.flatten()).view(pages.dtype).to(dtype)
    return rows.view(tables.shape[0], -1, *pages.shape[2:]).transpose(1, 2)
