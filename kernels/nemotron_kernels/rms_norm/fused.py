"""Add what a block gave, then scale each row to root mean square 1, in one launch: a program per row."""

import triton
import triton.language as tl


@triton.jit
def add_norm(h, delta, weight, out, total, eps, h_row, delta_row, D: tl.constexpr, BLOCK: tl.constexpr):
    """Grid (t). total: h + delta, rounded; none of both where there is no delta."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < D
    x = tl.load(h + row * h_row + columns, mask=inside, other=0)
    if delta is not None:
        added = x.to(tl.float32) + tl.load(delta + row * delta_row + columns, mask=inside, other=0).to(tl.float32)
        x = added.to(total.dtype.element_ty)
        tl.store(total + row * D + columns, x, mask=inside)
    wide = x.to(tl.float32)
    scale = tl.rsqrt(tl.sum(wide * wide) / D + eps)
    tl.store(
        out + row * D + columns,
        wide * scale * tl.load(weight + columns, mask=inside, other=0).to(tl.float32),
        mask=inside,
    )
