"""Attend one query at a time to everything at or before its position; there is no positional encoding.

Letters of this folder: q query heads, k key/value heads, d head dim, s tokens of a page.
"""

import torch
from torch import Tensor


def paged_attention(
    queries: Tensor, keys: Tensor, values: Tensor, tables: Tensor, owners: Tensor, positions: Tensor
) -> Tensor:
    """queries: (t, q, d), keys, values: (pages, s, k, d), tables: (b, n) page ids, owners, positions: (t).

    Query i belongs to sequence owners[i] and sits at positions[i], counted from 0. Softmax is FP32, or FP64 when the
    inputs are; scale is d^-1/2. Returns (t, q, d) in the queries' dtype.
    """
    wide = torch.promote_types(queries.dtype, torch.float32)
    repeat = queries.shape[1] // keys.shape[2]
    outputs = []
    for query, owner, position in zip(queries, owners.tolist(), positions.tolist(), strict=True):
        k, v = (
            pages[tables[owner]].flatten(0, 1)[: position + 1].to(wide).repeat_interleave(repeat, dim=1)
            for pages in (keys, values)
        )
        scores = torch.einsum("qd,lqd->ql", query.to(wide), k) * query.shape[-1] ** -0.5
        outputs.append(torch.einsum("ql,lqd->qd", scores.softmax(-1), v))
    return torch.stack(outputs).to(queries.dtype)
