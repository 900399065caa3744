"""Draw random bits that a key and a counter alone decide, so that they are the same wherever they are drawn.

Source: Philox4x32 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), §4.
"""

import torch
from torch import Tensor

MASK32 = (1 << 32) - 1
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85
"""What the key grows by from round to round: the golden ratio and √3 - 1, as fractions of 2^32."""
ROUNDS = 7
"""The fewest that pass all of BigCrush (table 2 of the source)."""
DRAWS = 8
"""Of one counter: its four words' halves."""
DRAW_BITS = 16
"""More than the 13 that FP32 has beyond FP16; of a step of bytes, they leave out 2^-17 at most, to either side."""
AT_ONCE = 1 << 15
"""Counters: temporary values are read back while they are still near the processor."""

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: Words, key: tuple[Tensor, Tensor], rounds: int = ROUNDS) -> Words:
    """Four words of 32 bits from four and a key of two, all INT64 that broadcast."""
    (a, b, c, d), (k, m) = counter, key
    for _ in range(rounds):
        # All 64 bits of the products; their highest one is the sign.
        left, right = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b = (right >> 32).bitwise_and_(MASK32) ^ b ^ k, right.bitwise_and_(MASK32)
        c, d = (left >> 32).bitwise_and_(MASK32) ^ d ^ m, left.bitwise_and_(MASK32)
        k, m = (k + WEYL[0]) & MASK32, (m + WEYL[1]) & MASK32
    return a, b, c, d


def uniform(seeds: Tensor, positions: Tensor, layer: int, count: int) -> Tensor:
    """(b, count) FP32 in (0, 1), each the middle of one of 2^16 equal parts; seeds, positions: (b) INT64.

    Element i takes half i mod 8, a word's upper one first, of the counter (i // 8, position, layer, 0) under the key
    that the seed is.
    """
    key = seeds[:, None] & MASK32, (seeds[:, None] >> 32) & MASK32
    rest = positions[:, None] & MASK32, torch.full_like(positions[:, None], layer), torch.zeros_like(positions[:, None])
    drawn = torch.empty(len(seeds), -(-count // DRAWS), DRAWS, device=seeds.device)
    at_once = max(1, AT_ONCE // max(1, len(seeds)))
    for start in range(0, drawn.shape[1], at_once):
        part = drawn[:, start : start + at_once]
        index = torch.arange(start, start + part.shape[1], device=seeds.device)
        for place, word in enumerate(philox((index[None], *rest), key)):
            part[..., 2 * place] = word >> DRAW_BITS
            part[..., 2 * place + 1] = word & (1 << DRAW_BITS) - 1
    return drawn.add_(0.5).mul_(2.0**-DRAW_BITS).flatten(1)[:, :count]
