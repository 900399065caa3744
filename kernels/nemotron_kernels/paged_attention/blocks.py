"""Attend to long texts where they lie: pages that follow each other in memory are read there, block by block.

A gather writes every key and value once and reads it twice more; only blocks whose pages are scattered are gathered.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from nemotron_kernels.paged_attention.store import raw

BLOCK_TOKENS = 1024
"""Few enough that what must be gathered or widened is still near the processor when it is used."""


def attend_in_blocks(
    queries: Tensor, keys: Tensor, values: Tensor, tables: Tensor, positions: Tensor, block_tokens: int = BLOCK_TOKENS
) -> Tensor:
    """As `attend_window`; softmax is FP32, or FP64 when the queries are. On the host alone: it looks at the tables."""
    wide = torch.promote_types(queries.dtype, torch.float32)
    scaled = queries.to(wide) * queries.shape[-1] ** -0.5
    rows = zip(scaled, tables, positions, strict=True)
    outputs = [_attend(*row, keys, values, block_tokens // keys.shape[1]) for row in rows]
    return torch.stack(outputs).to(queries.dtype)


def _attend(queries: Tensor, table: Tensor, positions: Tensor, keys: Tensor, values: Tensor, pages: int) -> Tensor:
    """queries: (m, q, d), table: (n), positions: (m), consecutive → (m, q, d); so many pages at a time."""
    (m, q, d), k = queries.shape, keys.shape[2]
    first, stop = int(positions[0]), int(positions[-1]) + 1
    # The queries that share a key head stand below each other: (k, q/k · m, d).
    grouped = queries.view(m, k, q // k, d).permute(1, 2, 0, 3).reshape(k, -1, d)
    blocks = _blocks(keys, table, stop, pages, queries.dtype)
    scores = torch.cat([torch.bmm(grouped, block.transpose(1, 2)) for block in blocks], dim=-1)
    hidden = torch.arange(first, stop, device=keys.device) > positions[:, None]
    scores[:, :, first:].masked_fill_(hidden.repeat(q // k, 1), -torch.inf)
    weights, out, at = scores.softmax(-1), torch.zeros_like(grouped), 0
    for block in _blocks(values, table, stop, pages, queries.dtype):
        out.baddbmm_(weights[:, :, at : at + block.shape[1]], block)
        at += block.shape[1]
    return out.view(k, q // k, m, d).permute(2, 0, 1, 3).reshape(m, q, d)


def _blocks(rows: Tensor, table: Tensor, stop: int, pages: int, dtype: torch.dtype) -> Iterator[Tensor]:
    """rows: (pages, s, k, d) → (k, tokens, d) of each block of a table, up to the token `stop`."""
    s = rows.shape[1]
    table = table[: -(-stop // s)]
    follows = (table.diff() == 1).numpy()
    for start in range(0, len(table), pages):
        block = table[start : start + pages]
        if follows[start : start + len(block) - 1].all():
            found = rows[int(block[0]) : int(block[0]) + len(block)]
        else:
            found = raw(rows).index_select(0, block).view(rows.dtype)
        yield found.flatten(0, 1)[: stop - start * s].to(dtype).transpose(0, 1)
