"""Choose experts in one launch: programs score some experts each, the last of a token's ranks all of them.

An expert's rank is how many come before it, so that no round of the choice waits for another one.
"""

import triton
import triton.language as tl

from nemotron_kernels.activation.inline import sigmoid

COMPARED = tl.constexpr(8)
"""Experts that all others are compared with at a time."""


@triton.jit
def ranks(choice, mine, es, E: tl.constexpr):
    """How many of `choice`, (E) in memory, come before each of `mine`: larger ones, and equal ones of lower index."""
    rank = tl.zeros(es.shape, tl.int32)
    for first in range(0, E, COMPARED):
        others = first + tl.arange(0, COMPARED)
        theirs = tl.load(choice + others, mask=others < E, other=float("-inf"), cache_modifier=".cg")
        larger = theirs[None, :] > mine[:, None]
        earlier = (theirs[None, :] == mine[:, None]) & (others[None, :] < es[:, None])
        rank += tl.sum((larger | earlier).to(tl.int32), 1)
    return rank


@triton.jit
def choose(
    scores, choice, ids, weights, scale, E: tl.constexpr, K: tl.constexpr, NORMALIZE: tl.constexpr, BLOCK: tl.constexpr
):
    """Write the k largest of a token's experts, by index; all pointers are the token's."""
    es = tl.arange(0, BLOCK)
    inside = es < E
    mine = tl.load(choice + es, mask=inside, other=float("-inf"), cache_modifier=".cg")
    score = tl.load(scores + es, mask=inside, other=0, cache_modifier=".cg")
    chosen = inside & (ranks(choice, mine, es, E) < K)
    place = tl.cumsum(chosen.to(tl.int32), 0) - 1
    # Scores that are no numbers come before none and after none: more than k experts seem to be chosen then.
    chosen = chosen & (place < K)
    if NORMALIZE:
        score = score / (tl.sum(tl.where(chosen, score, 0.0)) + 1e-20)
    tl.store(ids + place, es, mask=chosen)
    tl.store(weights + place, score * scale, mask=chosen)


@triton.jit
def route(
    x, weight, bias, scores, choice, arrived, ids, weights, scale, x_row,
    E: tl.constexpr, D: tl.constexpr, K: tl.constexpr, NORMALIZE: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_ALL: tl.constexpr,
):  # fmt: skip
    """Grid (blocks of experts, t). scores, choice: (t, e) FP32; arrived: (t) zeros, and zeros again when it ends."""
    t = tl.program_id(1).to(tl.int64)
    es = tl.program_id(0) * BLOCK_E + tl.arange(0, BLOCK_E)
    inside = es < E
    products = tl.zeros((BLOCK_E, BLOCK_D), tl.float32)
    for first in range(0, D, BLOCK_D):
        ds = first + tl.arange(0, BLOCK_D)
        mine = tl.load(x + t * x_row + ds, mask=ds < D, other=0).to(tl.float32)
        rows = tl.load(weight + es[:, None] * D + ds[None, :], mask=inside[:, None] & (ds < D)[None, :], other=0)
        products += rows.to(tl.float32) * mine[None, :]
    score = sigmoid(tl.sum(products, 1))
    tl.store(scores + t * E + es, score, mask=inside)
    biased = score + tl.load(bias + es, mask=inside, other=0).to(tl.float32)
    tl.store(choice + t * E + es, biased, mask=inside)
    # All of this program's threads have written before one of them says so.
    tl.debug_barrier()
    if tl.atomic_add(arrived + t, 1, sem="acq_rel") == tl.num_programs(0) - 1:
        tl.store(arrived + t, 0)
        choose(scores + t * E, choice + t * E, ids + t * K, weights + t * K, scale, E, K, NORMALIZE, BLOCK_ALL)
