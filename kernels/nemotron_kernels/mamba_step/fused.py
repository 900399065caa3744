"""Step in one launch: a program per sequence and part of a head, the last of a group's norms what all of them made.

The tail of a sequence, its new tokens among it, stays in registers: what one program writes to the ring no other one
reads in the same launch. Sums have one order whatever else the launch computes.
"""

import triton
import triton.language as tl

from nemotron_kernels.activation.inline import silu, softplus

SCALED_TOGETHER = tl.constexpr(128)


@triton.jit
def read_state(states, scales, head_row, ps, ns, P: tl.constexpr, N: tl.constexpr):
    """(BLOCK_P, BLOCK_N) FP32 of the head that is `head_row` of all slots' heads."""
    inside = (ps < P)[:, None] & (ns < N)[None, :]
    places = ps[:, None] * N + ns[None, :]
    state = tl.load(states + head_row * (P * N) + places, mask=inside, other=0).to(tl.float32)
    if scales is not None:
        per_head: tl.constexpr = (P * N + SCALED_TOGETHER - 1) // SCALED_TOGETHER
        of_head = scales + head_row * per_head
        if N == SCALED_TOGETHER:
            state *= tl.load(of_head + ps, mask=ps < P, other=0)[:, None]
        else:
            state *= tl.load(of_head + places // SCALED_TOGETHER, mask=inside, other=0)
    return state


@triton.jit
def convolve(
    taps,
    xbc,
    weight,
    bias,
    channels,
    inside,
    i,
    start,
    xbc_row,
    RING: tl.constexpr,
    TAPS: tl.constexpr,
    C: tl.constexpr,
):
    """FP32 of new token i's channels, rounded as the ring keeps them, and what went in; `taps`, `xbc`: a sequence's."""
    y = tl.zeros(channels.shape, tl.float32)
    last = tl.zeros(channels.shape, tl.float32)
    for j in tl.static_range(TAPS):
        token = i + j - (TAPS - 1)
        place = (start + token + RING) % RING
        in_ring = tl.zeros(channels.shape, tl.int32) + token < 0
        before = tl.load(taps + place * C + channels, mask=inside & in_ring, other=0).to(tl.float32)
        new = tl.load(xbc + token * xbc_row + channels, mask=inside & ~in_ring, other=0).to(tl.float32)
        last = tl.where(in_ring, before, new)
        y += last * tl.load(weight + channels * TAPS + j, mask=inside, other=0).to(tl.float32)
    if bias is not None:
        y += tl.load(bias + channels, mask=inside, other=0).to(tl.float32)
    return silu(y).to(taps.dtype.element_ty).to(tl.float32), last


@triton.jit
def norm_group(
    gated, norm, out, eps, first_row, group, q, SIZE: tl.constexpr, BLOCK: tl.constexpr, INNER: tl.constexpr
):  # fmt: skip
    """Scale a group of channels of q rows to root mean square 1, then by the weight, after rounding."""
    dtype = out.dtype.element_ty
    channels = tl.arange(0, BLOCK)
    inside = channels < SIZE
    weight = tl.load(norm + group * SIZE + channels, mask=inside, other=0).to(dtype).to(tl.float32)
    for i in range(q):
        place = (first_row + i) * INNER + group * SIZE + channels
        # Other multiprocessors wrote it: past this one's own cache.
        value = tl.load(gated + place, mask=inside, other=0, cache_modifier=".cg")
        scaled = value * tl.rsqrt(tl.sum(value * value) / SIZE + eps)
        tl.store(out + place, scaled.to(dtype).to(tl.float32) * weight, mask=inside)


@triton.jit
def step_head(
    z, xbc, dt, positions, anchors, slot, b, head, part,
    states, scales, before, taps, xs, Bs, sums, keys,
    conv_weight, conv_bias, A, D, dt_bias, gated,
    z_row, xbc_row, dt_row, q,
    H: tl.constexpr, P: tl.constexpr, G: tl.constexpr, N: tl.constexpr, RING: tl.constexpr, TAPS: tl.constexpr,
    TAIL: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gated y of q tokens of a part of a head, FP32, and what the ring keeps of them."""
    C: tl.constexpr = H * P + 2 * G * N
    group = head // (H // G)
    head_row, group_row = slot * H + head, slot * G + group
    ps, ns, ages = part * BLOCK_P + tl.arange(0, BLOCK_P), tl.arange(0, BLOCK_N), tl.arange(0, TAIL)
    p_in, n_in = ps < P, ns < N
    start, anchor = tl.load(positions + b * q), tl.load(anchors + b)
    # B and C are the same for all heads of a group, of which the first one keeps them.
    keeps_group = n_in & (tl.zeros(ns.shape, tl.int32) + part + head % (H // G) == 0)

    old = ages < start - anchor
    places = (anchor + ages) % RING
    state = read_state(states, scales, head_row, ps, ns, P, N)
    tail_x = tl.load(
        xs + (head_row * RING + places)[:, None] * P + ps[None, :], mask=old[:, None] & p_in[None, :], other=0
    )
    tail_B = tl.load(
        Bs + (group_row * RING + places)[:, None] * N + ns[None, :], mask=old[:, None] & n_in[None, :], other=0
    )
    tail_K = tl.load(keys + head_row * RING + places, mask=old, other=float("inf"))
    L = tl.load(sums + head_row * RING + (start + RING - 1) % RING)
    L_anchor = tl.load(before + head_row)
    rate, skip, bias = (
        tl.load(A + head).to(tl.float64),
        tl.load(D + head).to(tl.float32),
        tl.load(dt_bias + head).to(tl.float32),
    )

    own_taps, own_xbc = taps + slot * (RING * C), xbc + b * q * xbc_row
    for i in range(q):
        row, here = b * q + i, (start + i) % RING
        x, x_in = convolve(
            own_taps, own_xbc, conv_weight, conv_bias, head * P + ps, p_in, i, start, xbc_row, RING, TAPS, C
        )
        of_B = H * P + group * N + ns
        B, B_in = convolve(own_taps, own_xbc, conv_weight, conv_bias, of_B, n_in, i, start, xbc_row, RING, TAPS, C)
        of_C = of_B + G * N
        c, C_in = convolve(own_taps, own_xbc, conv_weight, conv_bias, of_C, n_in, i, start, xbc_row, RING, TAPS, C)
        seconds = softplus(tl.load(dt + row * dt_row + head).to(tl.float32) + bias)
        L += seconds * rate
        K = tl.where(seconds > 0, L - tl.log(tl.where(seconds > 0, seconds, 1.0)), float("inf"))

        mine = ages == start - anchor + i
        tail_x = tl.where(mine[:, None], x.to(tail_x.dtype)[None, :], tail_x)
        tail_B = tl.where(mine[:, None], B.to(tail_B.dtype)[None, :], tail_B)
        tail_K = tl.where(mine, K, tail_K)
        weights = tl.exp((L - tail_K).to(tl.float32)) * tl.sum(tail_B.to(tl.float32) * c[None, :], 1)
        y = tl.sum(weights[:, None] * tail_x.to(tl.float32), 0) + skip * x
        y += tl.sum(state * c[None, :], 1) * tl.exp((L - L_anchor).to(tl.float32))
        gate = tl.load(z + row * z_row + head * P + ps, mask=p_in, other=0).to(tl.float32)
        tl.store(gated + row * (H * P) + head * P + ps, y * silu(gate), mask=p_in)

        tl.store(own_taps + here * C + head * P + ps, x_in, mask=p_in)
        tl.store(xs + (head_row * RING + here) * P + ps, x, mask=p_in)
        tl.store(own_taps + here * C + of_B, B_in, mask=keeps_group)
        tl.store(own_taps + here * C + of_C, C_in, mask=keeps_group)
        tl.store(Bs + (group_row * RING + here) * N + ns, B, mask=keeps_group)
        tl.store(sums + head_row * RING + here, L, mask=part == 0)
        tl.store(keys + head_row * RING + here, K, mask=part == 0)


@triton.jit
def step(
    z, xbc, dt, slots, positions, anchors,
    states, scales, before, taps, xs, Bs, sums, keys,
    conv_weight, conv_bias, A, D, dt_bias, norm, eps,
    gated, arrived, out,
    z_row, xbc_row, dt_row, q,
    H: tl.constexpr, P: tl.constexpr, G: tl.constexpr, N: tl.constexpr, RING: tl.constexpr, TAPS: tl.constexpr,
    TAIL: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_G: tl.constexpr,
):  # fmt: skip
    """Grid (h · parts, b). gated: (b · q, h · p) FP32; arrived: (b · g) zeros, and zeros again when it ends."""
    PARTS: tl.constexpr = (P + BLOCK_P - 1) // BLOCK_P
    b = tl.program_id(1).to(tl.int64)
    head, part = tl.program_id(0) // PARTS, tl.program_id(0) % PARTS
    slot = tl.load(slots + b)
    if slot >= 0:
        step_head(
            z, xbc, dt, positions, anchors, slot, b, head, part,
            states, scales, before, taps, xs, Bs, sums, keys,
            conv_weight, conv_bias, A, D, dt_bias, gated,
            z_row, xbc_row, dt_row, q, H, P, G, N, RING, TAPS, TAIL, BLOCK_P, BLOCK_N,
        )  # fmt: skip
        group = head // (H // G)
        # All of this program's threads have written before one of them says so.
        tl.debug_barrier()
        others = tl.atomic_add(arrived + b * G + group, 1, sem="acq_rel")
        if others == H // G * PARTS - 1:
            tl.store(arrived + b * G + group, 0)
            norm_group(gated, norm, out, eps, b * q, group, q, H // G * P, BLOCK_G, H * P)
    else:
        ps = part * BLOCK_P + tl.arange(0, BLOCK_P)
        for i in range(q):
            tl.store(out + (b * q + i) * (H * P) + head * P + ps, tl.zeros(ps.shape, tl.float32), mask=ps < P)
