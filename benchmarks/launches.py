"""Make the launches of a decode step at the sizes of real models, on whatever device tensors are made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nemotron_kernels.launch import Launch
from nemotron_kernels.mamba_step import Block, RingParts, Rows, commit_op
from nemotron_kernels.mamba_step import op as mamba_step
from nemotron_kernels.moe import op as moe
from nemotron_kernels.paged_attention import op as attention
from nemotron_kernels.rms_norm import op as rms_norm
from nemotron_kernels.router import op as router

RING, BLOCK, PAGE, OLD, MOST_OLD, TAPS = 48, 16, 64, 24, 31, 4
"""Places of a ring, tokens of a block, of a page, since an anchor usually and at most; taps of the convolution."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What kernels see of a model."""

    d: int
    mamba: tuple[int, int, int, int]
    """h, p, g, n."""
    attention: tuple[int, int, int]
    """Query heads, key heads, head dim."""
    experts: tuple[int, int, int, int, int] | None
    """How many, chosen, inner, width (latent where there is one), inner of the shared one."""


SIZES = {
    "Nano": Sizes(2688, (64, 64, 8, 128), (32, 2, 128), (128, 6, 1856, 2688, 3712)),
    "Super": Sizes(4096, (128, 64, 8, 128), (32, 2, 128), (512, 22, 2688, 1024, 5376)),
    "Ultra": Sizes(8192, (256, 64, 8, 128), (64, 2, 128), (512, 22, 5120, 2048, 10240)),
    "Nano 4B": Sizes(3136, (96, 80, 8, 128), (40, 8, 128), None),
}


@dataclass(frozen=True, slots=True)
class Work:
    """Launches that belong together, and the bytes that they have to read and write."""

    launches: tuple[Launch, ...]
    bytes: int


Maker = Callable[[Sizes, int], Work]


def numbers(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Random ones, of any type; on the device "meta", none."""
    if dtype in (torch.int8, torch.float8_e4m3fn):
        return torch.randint(0, 100, shape, dtype=torch.uint8).view(dtype)
    return torch.empty(shape, dtype=dtype).normal_()


def _states(b: int, h: int, p: int, n: int, kept: torch.dtype) -> tuple[Tensor, ...]:
    scales = (numbers(b, h, -(-p * n // 128), dtype=torch.float32),) if kept == torch.int8 else ()
    return (numbers(b, h, p, n, dtype=kept), *scales)


def _ring(sizes: Sizes, b: int, kept: torch.dtype) -> RingParts:
    (h, p, g, n), wide = sizes.mamba, torch.float64
    return RingParts(
        _states(b, h, p, n, kept),
        torch.zeros(b, h, dtype=wide),
        numbers(b, RING, h * p + 2 * g * n),
        numbers(b, h, RING, p),
        numbers(b, g, RING, n),
        torch.zeros(b, h, RING, dtype=wide),
        torch.zeros(b, h, RING, dtype=wide),
    )


def commit(kept: torch.dtype) -> Maker:
    """The move of every sequence's anchor, which a step makes for one sequence out of BLOCK."""

    def make(sizes: Sizes, b: int) -> Work:
        (h, p, g, n), ring = sizes.mamba, _ring(sizes, b, kept)
        seeds, anchors = torch.arange(b), torch.full((b,), BLOCK)
        launch = commit_op.plan(ring, torch.arange(b), seeds, anchors, layer=7, tokens=BLOCK)
        tail = BLOCK * (2 * (h * p + g * n) + 16 * h)
        return Work((launch,), 2 * sum(part.nbytes for part in ring.states) + b * tail)

    return make


def step(kept: torch.dtype, q: int = 1) -> Maker:
    """The fused step of a Mamba-2 block, with states kept as they are."""

    def make(sizes: Sizes, b: int) -> Work:
        h, p, g, n = sizes.mamba
        c, ring = h * p + 2 * g * n, _ring(sizes, b, kept)
        A, D, bias = (numbers(h, dtype=torch.float32) for _ in range(3))
        block = Block(numbers(c, TAPS), numbers(c), A, D, bias, numbers(h * p), 1e-5)
        z, xbc, dt = torch.split(numbers(b * q, h * p + c + h), [h * p, c, h], -1)
        positions = (torch.arange(OLD, OLD + q) + torch.zeros(b, 1, dtype=torch.int64)).contiguous()
        rows = Rows(z, xbc, dt, torch.arange(b), positions, torch.zeros(b, dtype=torch.int64))
        out, gated = numbers(b * q, h * p), torch.empty(b * q, h * p, dtype=torch.float32)
        launch = mamba_step.plan(rows, ring, block, gated, _arrivals(b * g), out, MOST_OLD)
        tail = OLD * (2 * (h * p + g * n) + 8 * h)
        read = sum(part.nbytes for part in ring.states) + b * (tail + TAPS * c * 2)
        return Work((launch,), read + b * q * 2 * (3 * h * p + 4 * g * n + c))

    return make


def attend(kept: torch.dtype, tokens: int) -> Maker:
    """Attention of one query of each of b sequences of so many tokens."""

    def make(sizes: Sizes, b: int) -> Work:
        q, k, d = sizes.attention
        pages = -(-tokens // PAGE)
        keys, values = (numbers(b * pages, PAGE, k, d, dtype=kept) for _ in range(2))
        tables = torch.randperm(b * pages).view(b, pages)
        queries, positions = numbers(b, 1, q, d), torch.full((b, 1), tokens - 1)
        launch = attention.plan(queries, keys, values, tables, positions, _arrivals(b * k), queries.clone())
        return Work((launch,), keys.nbytes + values.nbytes + 2 * queries.nbytes)

    return make


def route(sizes: Sizes, t: int) -> Work:
    """The router of a MoE block, with FP32 weights."""
    e, k = _experts(sizes)[:2]
    x, weight, bias = numbers(t, sizes.d), numbers(e, sizes.d, dtype=torch.float32), numbers(e, dtype=torch.float32)
    ids, chosen = torch.empty(t, k, dtype=torch.int64), torch.empty(t, k, dtype=torch.float32)
    launch = router.plan(x, weight, bias, _arrivals(t), ids, chosen, 2.5, normalize=True)
    return Work((launch,), weight.nbytes + x.nbytes)


def normalize(sizes: Sizes, t: int) -> Work:
    """The sum of what blocks gave so far, and its norm."""
    h, delta = numbers(t, sizes.d), numbers(t, sizes.d)
    launch = rms_norm.plan(h, delta, numbers(sizes.d), 1e-5, h.clone(), h.clone())
    return Work((launch,), 4 * h.nbytes)


def run_experts(sizes: Sizes, t: int) -> Work:
    """Routed experts and the shared one; bytes are those of the distinct experts that random ids name."""
    e, k, inner, width, shared_inner = _experts(sizes)
    up, down = numbers(e, inner, width), numbers(e, width, inner)
    x = numbers(t, width)
    shared = moe.Shared(numbers(t, sizes.d), numbers(shared_inner, sizes.d), numbers(sizes.d, shared_inner))
    ids = torch.rand(t, e).argsort(-1)[:, :k].sort(-1).values
    outs = x.clone(), shared.x.clone()
    weights = numbers(t, k, dtype=torch.float32)
    launches = moe.plans(x, ids, weights, up, down, shared, outs, together=width == sizes.d)
    distinct = t * k if ids.is_meta else int(ids.flatten().bincount().count_nonzero())
    read = distinct * (up[0].nbytes + down[0].nbytes) + shared.up.nbytes + shared.down.nbytes
    return Work(launches, read + 2 * x.nbytes + 2 * shared.x.nbytes)


def _experts(sizes: Sizes) -> tuple[int, int, int, int, int]:
    if sizes.experts is None:
        raise ValueError("this model has no experts")
    return sizes.experts


def _arrivals(count: int) -> Tensor:
    return torch.zeros(count, dtype=torch.int32)


MAKERS: Mapping[str, Maker] = {
    "step, FP32 state": step(torch.float32),
    "step, FP16 state": step(torch.float16),
    "step, INT8 state": step(torch.int8),
    "step of 4 tokens": step(torch.float32, q=4),
    "commit, FP32 state": commit(torch.float32),
    "commit, FP16 state": commit(torch.float16),
    "commit, INT8 state": commit(torch.int8),
    "attention at 1k": attend(torch.bfloat16, 1024),
    "attention at 64k": attend(torch.bfloat16, 65536),
    "attention at 64k, FP8": attend(torch.float8_e4m3fn, 65536),
    "sum and norm": normalize,
    "router": route,
    "experts": run_experts,
}


def makers(sizes: Sizes) -> Mapping[str, Maker]:
    """What a model of these sizes computes."""
    return {name: make for name, make in MAKERS.items() if sizes.experts or make not in (route, run_experts)}
