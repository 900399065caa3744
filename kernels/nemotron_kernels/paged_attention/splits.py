"""Attend split by split, each of the same keys for whoever asks, combined in order: a query's bits are its own.

Source: the running maximum and sum of online softmax (arXiv 1805.02867). A split that a query sees nothing of leaves
its result as it is, to the bit.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nemotron_kernels.paged_attention.store import raw
from nemotron_kernels.reduction import sum_by_halves

SPLIT_TOKENS = 64
TILE_QUERIES = 16
"""Computed together: libraries choose their order of summation by how many there are, too."""


def attend_in_splits(queries: Tensor, keys: Tensor, values: Tensor, tables: Tensor, positions: Tensor) -> Tensor:
    """queries: (t, q, d), keys, values: (pages, s, k, d), tables: (t, n), positions: (t) → (t, q, d).

    Softmax is FP32. Pages beyond a query's position may be anyone's but must hold finite numbers.
    """
    t = len(queries)
    queries, tables = (F.pad(each, (*[0, 0] * (each.ndim - 1), 0, -t % TILE_QUERIES)) for each in (queries, tables))
    tiles = (torch.split(each, TILE_QUERIES) for each in (queries, tables, F.pad(positions, (0, -t % TILE_QUERIES))))
    return torch.cat([_attend(tile, keys, values, table, at) for tile, table, at in zip(*tiles, strict=True)])[:t]


def _attend(queries: Tensor, keys: Tensor, values: Tensor, tables: Tensor, positions: Tensor) -> Tensor:
    """The same for a tile of queries."""
    (t, q, d), (_, s, k, _) = queries.shape, keys.shape
    grouped = queries.float().contiguous().view(t, k, q // k, d)
    most = torch.full((t, k, q // k, 1), -torch.inf, device=queries.device)
    total, out = torch.zeros_like(most), torch.zeros_like(grouped)
    # Not to the last position, which a GPU would have to be asked for: splits that nobody sees change nothing.
    for start in range(0, tables.shape[1] * s, SPLIT_TOKENS):
        columns = slice(start // s, (start + SPLIT_TOKENS) // s)
        k_split, v_split = (_split(pages, tables[:, columns]) for pages in (keys, values))
        seen = torch.arange(start, start + SPLIT_TOKENS, device=keys.device) <= positions[:, None]
        scores = (grouped @ k_split.transpose(-1, -2) * d**-0.5).masked_fill(~seen[:, None, None], -torch.inf)
        next_most = torch.maximum(most, scores.amax(-1, keepdim=True))
        shares, faded = (scores - next_most).exp(), (most - next_most).exp()
        total = total * faded + sum_by_halves(shares)
        out = out * faded + shares @ v_split
        most = next_most
    return (out / total).view(t, q, d).to(queries.dtype)


def _split(pages: Tensor, tables: Tensor) -> Tensor:
    """pages: (pages, s, k, d), tables: (t, n) → (t, k, SPLIT_TOKENS, d), zeros where a table ends early."""
    found = raw(pages)[tables].view(pages.dtype).flatten(1, 2).float()
    # Contiguous, as libraries choose their order of summation by layout, too.
    return F.pad(found, (0, 0, 0, 0, 0, SPLIT_TOKENS - found.shape[1])).transpose(1, 2).contiguous()
