"""Run the experts of a few tokens in two launches: a token's vector by some rows of a matrix in each program.

No sorting and no grouping: what two tokens share comes from the cache. The shared expert is one more of each token's.
Sums are FP32 and in the order of the ids; a token's bits are its own.
"""

import triton
import triton.language as tl


@triton.jit
def rows_times(
    matrix, vector, rows, ROWS: tl.constexpr, WIDTH: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):
    """(BLOCK_N) FP32 products of rows of a matrix (ROWS, WIDTH) with a vector (WIDTH)."""
    products = tl.zeros((BLOCK_N, BLOCK_K), tl.float32)
    for first in range(0, WIDTH, BLOCK_K):
        columns = first + tl.arange(0, BLOCK_K)
        inside = columns < WIDTH
        x = tl.load(vector + columns, mask=inside, other=0).to(tl.float32)
        w = tl.load(
            matrix + rows[:, None] * WIDTH + columns[None, :], mask=(rows < ROWS)[:, None] & inside[None, :], other=0
        )
        products += w.to(tl.float32) * x[None, :]
    return tl.sum(products, 1)


@triton.jit
def raise_up(
    x, shared_x, ids, up, shared_up, hidden, tokens, x_row, shared_x_row,
    K: tl.constexpr, D: tl.constexpr, INNER: tl.constexpr, SHARED_D: tl.constexpr, SHARED_INNER: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """hidden: (t, k · inner + shared inner) FP32, relu(up(x))² of each; grid (blocks of a token's rows · t)."""
    BLOCKS: tl.constexpr = (INNER + BLOCK_N - 1) // BLOCK_N
    # Tokens first: what all of them read, they read together.
    token, block = (tl.program_id(0) % tokens).to(tl.int64), tl.program_id(0) // tokens
    target = hidden + token * (K * INNER + SHARED_INNER)
    if block < K * BLOCKS:
        place = block // BLOCKS
        rows = block % BLOCKS * BLOCK_N + tl.arange(0, BLOCK_N)
        expert = tl.load(ids + token * K + place)
        y = tl.maximum(rows_times(up + expert * (INNER * D), x + token * x_row, rows, INNER, D, BLOCK_N, BLOCK_K), 0.0)
        tl.store(target + place * INNER + rows, y * y, mask=rows < INNER)
    elif SHARED_INNER > 0:
        rows = (block - K * BLOCKS) * BLOCK_N + tl.arange(0, BLOCK_N)
        y = rows_times(shared_up, shared_x + token * shared_x_row, rows, SHARED_INNER, SHARED_D, BLOCK_N, BLOCK_K)
        y = tl.maximum(y, 0.0)
        tl.store(target + K * INNER + rows, y * y, mask=rows < SHARED_INNER)


@triton.jit
def bring_down(
    hidden, ids, weights, down, shared_down, out, shared_out, tokens,
    K: tl.constexpr, D: tl.constexpr, INNER: tl.constexpr, SHARED_D: tl.constexpr, SHARED_INNER: tl.constexpr,
    TOGETHER: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """out: (t, d) the weighted sum, with the shared expert's where they go TOGETHER; else that is shared_out's."""
    BLOCKS: tl.constexpr = (D + BLOCK_N - 1) // BLOCK_N
    token, block = (tl.program_id(0) % tokens).to(tl.int64), tl.program_id(0) // tokens
    source = hidden + token * (K * INNER + SHARED_INNER)
    if block < BLOCKS:
        rows = block * BLOCK_N + tl.arange(0, BLOCK_N)
        total = tl.zeros((BLOCK_N,), tl.float32)
        for place in range(K):
            expert = tl.load(ids + token * K + place)
            y = rows_times(down + expert * (D * INNER), source + place * INNER, rows, D, INNER, BLOCK_N, BLOCK_K)
            total += tl.load(weights + token * K + place) * y
        if TOGETHER:
            total += rows_times(shared_down, source + K * INNER, rows, D, SHARED_INNER, BLOCK_N, BLOCK_K)
        tl.store(out + token * D + rows, total, mask=rows < D)
    elif SHARED_INNER > 0:
        rows = (block - BLOCKS) * BLOCK_N + tl.arange(0, BLOCK_N)
        y = rows_times(shared_down, source + K * INNER, rows, SHARED_D, SHARED_INNER, BLOCK_N, BLOCK_K)
        tl.store(shared_out + token * SHARED_D + rows, y, mask=rows < SHARED_D)
