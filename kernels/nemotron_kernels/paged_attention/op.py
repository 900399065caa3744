"""Offer attention in parallel parts to torch as an operation, which graphs and compilers take as one."""

import torch
from torch import Tensor

from nemotron_kernels.launch import COUNTERS, Launch, counters, options, power_of_two
from nemotron_kernels.paged_attention.store import raw

MOST_PARTS = 64
"""Of a sequence: with two key heads, one long sequence fills 128 multiprocessors."""
LEAST_TOKENS = 128
"""Of a part. Neither is tuned: no GPU was measured yet."""
TILE_TOKENS, TILE_TOKENS_CONVERTED = 64, 32
"""Of a program's round: of 16-bit keys, and of those that are converted or wider. Two rounds fit any GPU's shared
memory, and no register spills."""
LEAST_PRODUCT = 16
"""Rows and columns of a matrix unit's product."""


def attend_window_in_parts(queries: Tensor, keys: Tensor, values: Tensor, tables: Tensor, positions: Tensor) -> Tensor:
    """As `attend_window`, on a CUDA device; a query's bits depend on its sequence alone, and the types.

    Rows at position -1 are nobody's and give zeros. Raises ValueError for more rows than counters.
    """
    b, m, _, _ = queries.shape
    if b * m * keys.shape[2] > COUNTERS:
        raise ValueError(f"{b * m} queries are too many for one launch: attend to them in several")
    out: Tensor = _op(
        queries.contiguous(), keys, values, tables.contiguous(), positions.contiguous(), counters(queries.device)
    )
    return out


def plan(
    queries: Tensor, keys: Tensor, values: Tensor, tables: Tensor, positions: Tensor, arrived: Tensor, out: Tensor
) -> Launch:
    """The one launch of a window's attention."""
    from nemotron_kernels.paged_attention import split_kv

    (b, m, q, d), (_, s, k, _) = queries.shape, keys.shape
    group, rows = q // k, b * m
    block_q, block_d = (max(LEAST_PRODUCT, power_of_two(each)) for each in (group, d))
    parts = max(1, min(MOST_PARTS, -(-tables.shape[1] * s // LEAST_TOKENS)))
    most, total = (_scratch(queries, rows, k, parts, block_q) for _ in range(2))
    arguments = {
        **{"queries": queries, "keys": raw(keys), "values": raw(values), "tables": tables, "positions": positions},
        **{"scale": d**-0.5, "most": most, "total": total},
        **{"partial": _scratch(queries, rows, k, parts, block_q, block_d), "arrived": arrived, "out": out},
        **{"table_row": tables.stride(0), "query_row": q * d, "M": m, "GROUP": group, "K": k, "D": d, "PAGE": s},
        **{"IS_E4M3": keys.dtype == torch.float8_e4m3fn, "PARTS": MOST_PARTS, "LEAST": LEAST_TOKENS},
        **{"BLOCK_Q": block_q, "BLOCK_D": block_d, "BLOCK_T": _tile(queries, keys)},
    }
    return Launch(split_kv.attend, (parts, k, rows), arguments, options(warps=4, stages=2))


def _tile(queries: Tensor, keys: Tensor) -> int:
    return TILE_TOKENS if queries.element_size() == keys.element_size() == 2 else TILE_TOKENS_CONVERTED


def _scratch(queries: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=queries.device)


@torch.library.custom_op("nemotron::attend_window", mutates_args=("arrived",))
def _op(queries: Tensor, keys: Tensor, values: Tensor, tables: Tensor, positions: Tensor, arrived: Tensor) -> Tensor:
    out = torch.empty_like(queries)
    plan(queries, keys, values, tables, positions, arrived, out).run()
    return out


@_op.register_fake
def _shape(queries: Tensor, *others: object) -> Tensor:
    return torch.empty_like(queries)
