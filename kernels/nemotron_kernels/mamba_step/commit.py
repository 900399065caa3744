"""Move states on by a block of tokens out of the ring, and round them by chance as their type asks for.

A program has a whole head: nothing that it overwrites is read by another one. Bits of the rounding are those of
`stochastic_rounding`.
"""

import triton
import triton.language as tl

from nemotron_kernels.mamba_step.fused import SCALED_TOGETHER, read_state

MOST = tl.constexpr(127.0)
LEAST_NORMAL = tl.constexpr(127 - 14)
STEPS_BELOW = tl.constexpr(10)
ROUNDS = tl.constexpr(7)


@triton.jit
def draw(seed, position, layer, elements):
    """FP32 in (0, 1), as `uniform` gives an element: half an element's number modulo 8 of its counter's four words."""
    elements = elements.to(tl.uint32)
    none = elements * 0
    a, b, c, d = tl.philox(seed, elements // 8, none + position.to(tl.uint32), none + layer, none, ROUNDS)
    pair = elements % 8 // 2
    word = tl.where(pair == 0, a, tl.where(pair == 1, b, tl.where(pair == 2, c, d)))
    half = tl.where(elements % 2 == 0, word >> 16, word & 0xFFFF)
    return (half.to(tl.float32) + 0.5) * (1.0 / 65536.0)


@triton.jit
def to_whole(values, u):
    """Up or down to whole numbers."""
    below = tl.floor(values)
    return below + (u < values - below).to(tl.float32)


@triton.jit
def to_half(values, u):
    """FP32 numbers that FP16 has, but for those that are too large."""
    exponents = (values.to(tl.int32, bitcast=True) >> 23) & 0xFF
    exponents = tl.maximum(exponents, LEAST_NORMAL) - STEPS_BELOW
    # Powers of two, and one over them: no product is rounded.
    steps = (exponents << 23).to(tl.float32, bitcast=True)
    return to_whole(values * ((254 - exponents) << 23).to(tl.float32, bitcast=True), u) * steps


@triton.jit
def to_bytes(values, u):
    """(blocks, SCALED_TOGETHER) → codes and (blocks) scales; a block with a number that is none is NaN."""
    is_none = values != values
    most = tl.max(tl.where(is_none, 0.0, tl.abs(values)), 1)
    scales = tl.where(
        tl.sum(is_none.to(tl.int32), 1) > 0, float("nan"), tl.div_rn(most, tl.full(most.shape, MOST, tl.float32))
    )
    units = tl.where(scales > 0, scales, 1.0)
    codes = to_whole(tl.div_rn(values, tl.broadcast_to(units[:, None], values.shape)), u)
    codes = tl.where(codes == codes, tl.minimum(tl.maximum(codes, -MOST), MOST), 0.0)
    return codes.to(tl.int8), scales


@triton.jit
def write_state(states, scales, state, head_row, ps, ns, head, seed, position, layer, P: tl.constexpr, N: tl.constexpr):
    """Round (BLOCK_P, N) of a head as its type asks for, and store it."""
    inside = (ps < P)[:, None] & (ns < N)[None, :]
    places = ps[:, None] * N + ns[None, :]
    own = states + head_row * (P * N) + places
    if states.dtype.element_ty == tl.float32:
        tl.store(own, state, mask=inside)
    else:
        u = draw(seed, position, layer, head * (P * N) + places)
        if scales is None:
            tl.store(own, to_half(state, u), mask=inside)
        else:
            blocks: tl.constexpr = ps.shape[0] * ns.shape[0] // SCALED_TOGETHER
            state = tl.where(inside, state, 0.0)
            codes, units = to_bytes(
                tl.reshape(state, (blocks, SCALED_TOGETHER)), tl.reshape(u, (blocks, SCALED_TOGETHER))
            )
            tl.store(own, tl.reshape(codes, (ps.shape[0], ns.shape[0])), mask=inside)
            per_head: tl.constexpr = (P * N + SCALED_TOGETHER - 1) // SCALED_TOGETHER
            first = tl.min(ps, 0) * N // SCALED_TOGETHER
            block = first + tl.arange(0, blocks)
            tl.store(scales + head_row * per_head + block, units, mask=block < per_head)


@triton.jit
def commit(
    states, scales, before, xs, Bs, sums, keys, slots, seeds, anchors, layer,
    H: tl.constexpr, P: tl.constexpr, G: tl.constexpr, N: tl.constexpr, RING: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Grid (h, b). Where the tokens were, the ring is empty afterwards; a slot of -1 is nobody's."""
    head, b = tl.program_id(0), tl.program_id(1)
    slot = tl.load(slots + b)
    if slot >= 0:
        seed, end = tl.load(seeds + b), tl.load(anchors + b)
        head_row, group_row = slot * H + head, slot * G + head // (H // G)
        L, L_before = tl.load(sums + head_row * RING + (end + RING - 1) % RING), tl.load(before + head_row)
        decay = tl.exp((L - L_before).to(tl.float32))
        ns = tl.arange(0, BLOCK_N)
        for first in range(0, P, BLOCK_P):
            ps = first + tl.arange(0, BLOCK_P)
            state = read_state(states, scales, head_row, ps, ns, P, N) * decay
            for token in range(TOKENS):
                place = (end - TOKENS + token) % RING
                weight = tl.exp((L - tl.load(keys + head_row * RING + place)).to(tl.float32))
                x = tl.load(xs + (head_row * RING + place) * P + ps, mask=ps < P, other=0).to(tl.float32)
                B = tl.load(Bs + (group_row * RING + place) * N + ns, mask=ns < N, other=0).to(tl.float32)
                state += (x * weight)[:, None] * B[None, :]
            write_state(states, scales, state, head_row, ps, ns, head, seed, end, layer, P, N)
        # All of this program's threads have read before one of them writes.
        tl.debug_barrier()
        tl.store(before + head_row, L)
        places = (end - TOKENS + tl.arange(0, TOKENS)) % RING
        tl.store(keys + head_row * RING + places, tl.full((TOKENS,), float("inf"), tl.float64))
