"""Gather the pages, then call torch's fused attention.

Letters of this folder: q query heads, k key/value heads, d head dim, s tokens of a page.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def attend_one_each(queries: Tensor, keys: Tensor, values: Tensor, tables: Tensor, lengths: Tensor) -> Tensor:
    """One query of each of b sequences, after its own key was written: a decode step.

    queries: (b, q, d), keys, values: (pages, s, k, d), tables: (b, n), lengths: (b) tokens with the query's own.
    Returns (b, q, d). Pages beyond a sequence's length may be anyone's but must hold finite numbers.
    """
    k, v = _gather(keys, tables), _gather(values, tables)
    seen = torch.arange(k.shape[2], device=k.device) < lengths[:, None]
    grouped = queries.view(queries.shape[0], k.shape[1], -1, queries.shape[-1])
    return F.scaled_dot_product_attention(grouped, k, v, attn_mask=seen[:, None, None]).flatten(1, 2)


def attend_span(queries: Tensor, keys: Tensor, values: Tensor, table: Tensor, start: int) -> Tensor:
    """l consecutive queries of one sequence, after their keys were written: a prefill chunk that begins at `start`.

    queries: (l, q, d), keys, values: (pages, s, k, d), table: (n) → (l, q, d).
    """
    stop = start + queries.shape[0]
    k, v = (_gather(pages, table[None])[:, :, :stop] for pages in (keys, values))
    positions = torch.arange(stop, device=k.device)
    seen = positions[None] <= positions[start:, None]
    out = F.scaled_dot_product_attention(queries.transpose(0, 1)[None], k, v, attn_mask=seen, enable_gqa=True)
    return out[0].transpose(0, 1)


def _gather(pages: Tensor, tables: Tensor) -> Tensor:
    """pages: (pages, s, k, d), tables: (b, n) → (b, k, n·s, d)."""
    rows = pages.index_select(0, tables.flatten())
    return rows.view(tables.shape[0], -1, *pages.shape[2:]).transpose(1, 2)
