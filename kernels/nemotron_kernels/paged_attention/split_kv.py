"""Attend to parts of a sequence side by side, each with online softmax; the last one to end combines them in order.

Source: flash decoding (Dao, Haziza, Massa, Sizov, 2023), over pages. How long the parts are is decided by the query's
own position: no neighbour changes a bit of its result. What lies beyond the position is not read.
"""

import triton
import triton.language as tl


@triton.jit
def as_halves(codes):
    """E4M3 bytes as FP16, which has every one of them: its sign, and its other bits 2^8 too low."""
    wide = codes.to(tl.int16)
    bits = ((wide & 0x80) << 8) | ((wide & 0x7F) << 7)
    return tl.where((wide & 0x7F) == 0x7F, float("nan"), bits.to(tl.float16, bitcast=True) * 256.0)


@triton.jit
def read(pages, places, ds, seen, D: tl.constexpr, IS_E4M3: tl.constexpr, dtype: tl.constexpr):
    """(BLOCK_T, BLOCK_D) of one head's keys or values."""
    tile = tl.load(pages + places[:, None] * D + ds[None, :], mask=seen[:, None] & (ds < D)[None, :], other=0)
    if IS_E4M3:
        return as_halves(tile).to(dtype)
    return tile.to(dtype)


@triton.jit
def weighted(shares, v):
    """shares · v, the FP32 shares of it not rounded to a shorter type's 8 bits but to twice as many."""
    if v.dtype == tl.float32:
        return tl.dot(shares, v, input_precision="ieee")
    high = shares.to(v.dtype)
    return tl.dot(high, v) + tl.dot((shares - high.to(tl.float32)).to(v.dtype), v)


@triton.jit
def combine(most, total, partial, first, parts, qs, ds, BLOCK_Q: tl.constexpr, BLOCK_D: tl.constexpr):
    """(BLOCK_Q, BLOCK_D) from the parts of one query head group, `first` and following."""
    highest = tl.full((BLOCK_Q,), float("-inf"), tl.float32)
    divisor = tl.zeros((BLOCK_Q,), tl.float32)
    out = tl.zeros((BLOCK_Q, BLOCK_D), tl.float32)
    for part in range(parts):
        place = (first + part) * BLOCK_Q + qs
        # Other multiprocessors wrote them: past this one's own cache.
        m, s = tl.load(most + place, cache_modifier=".cg"), tl.load(total + place, cache_modifier=".cg")
        o = tl.load(partial + place[:, None] * BLOCK_D + ds[None, :], cache_modifier=".cg")
        higher = tl.maximum(highest, m)
        kept, added = tl.exp(highest - higher), tl.exp(m - higher)
        divisor = divisor * kept + s * added
        out = out * kept[:, None] + o * added[:, None]
        highest = higher
    return out / divisor[:, None]


@triton.jit
def attend_part(
    queries, keys, values, table, first, last, query_row, head, scale, qs, ds,
    GROUP: tl.constexpr, K: tl.constexpr, D: tl.constexpr, PAGE: tl.constexpr, IS_E4M3: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_T: tl.constexpr,
):  # fmt: skip
    """A group of queries against tokens `first` to `last`, of which there is one → maximum, sum, weighted values."""
    dtype = queries.dtype.element_ty
    inside = (qs < GROUP)[:, None] & (ds < D)[None, :]
    q = tl.load(queries + query_row + (head * GROUP + qs)[:, None] * D + ds[None, :], mask=inside, other=0)
    highest = tl.full((BLOCK_Q,), float("-inf"), tl.float32)
    divisor = tl.zeros((BLOCK_Q,), tl.float32)
    out = tl.zeros((BLOCK_Q, BLOCK_D), tl.float32)
    for start in range(first, last + 1, BLOCK_T):
        tokens = start + tl.arange(0, BLOCK_T)
        seen = tokens <= last
        pages = tl.load(table + tokens // PAGE, mask=seen, other=0)
        places = (pages * PAGE + tokens % PAGE) * K + head
        k = read(keys, places, ds, seen, D, IS_E4M3, dtype)
        v = read(values, places, ds, seen, D, IS_E4M3, dtype)
        scores = tl.where(seen[None, :], tl.dot(q, tl.trans(k), input_precision="ieee") * scale, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        shares, kept = tl.exp(scores - higher[:, None]), tl.exp(highest - higher)
        divisor = divisor * kept + tl.sum(shares, 1)
        out = out * kept[:, None] + weighted(shares, v)
        highest = higher
    return highest, divisor, out


@triton.jit
def attend(
    queries, keys, values, tables, positions, scale, most, total, partial, arrived, out, table_row, query_row,
    M: tl.constexpr, GROUP: tl.constexpr, K: tl.constexpr, D: tl.constexpr, PAGE: tl.constexpr,
    IS_E4M3: tl.constexpr, PARTS: tl.constexpr, LEAST: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_T: tl.constexpr,
):  # fmt: skip
    """Grid (parts, k, rows). A row at position -1 gives zeros; arrived: (rows · k) zeros, and zeros when it ends."""
    part, head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    qs, ds = tl.arange(0, BLOCK_Q), tl.arange(0, BLOCK_D)
    inside = (qs < GROUP)[:, None] & (ds < D)[None, :]
    target = out + (row * K + head) * (GROUP * D) + qs[:, None] * D + ds[None, :]
    position = tl.load(positions + row).to(tl.int32)
    length = (position // PARTS + LEAST) // LEAST * LEAST
    parts = position // length + 1
    if (position >= 0) & (part < parts):
        last = tl.minimum(position, (part + 1) * length - 1)
        m, s, o = attend_part(
            queries, keys, values, tables + row // M * table_row, part * length, last, row * query_row, head, scale,
            qs, ds, GROUP, K, D, PAGE, IS_E4M3, BLOCK_Q, BLOCK_D, BLOCK_T,
        )  # fmt: skip
        group = row * K + head
        place = (group * tl.num_programs(0) + part) * BLOCK_Q + qs
        tl.store(most + place, m)
        tl.store(total + place, s)
        tl.store(partial + place[:, None] * BLOCK_D + ds[None, :], o)
        # All of this program's threads have written before one of them says so.
        tl.debug_barrier()
        if tl.atomic_add(arrived + group, 1, sem="acq_rel") == parts - 1:
            tl.store(arrived + group, 0)
            first = group * tl.num_programs(0)
            tl.store(target, combine(most, total, partial, first, parts, qs, ds, BLOCK_Q, BLOCK_D), mask=inside)
    if (position < 0) & (part == 0):
        tl.store(target, tl.zeros((BLOCK_Q, BLOCK_D), tl.float32), mask=inside)
