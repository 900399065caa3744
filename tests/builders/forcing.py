"""Feed an engine's network a known text, and measure how far its logits are from others."""

from pathlib import Path

import torch
from torch import Tensor

from nemotron_runtime import SamplingParams
from nemotron_runtime.config import load_config
from nemotron_runtime.executor import open_executor
from nemotron_runtime.moves import ClearPages, ClearSlot
from nemotron_runtime.request import Lease, Request
from nemotron_runtime.scheduler import Slice


def teacher_forced(directory: Path, tokens: list[int], prefill: int) -> Tensor:
    """The engine's logits (l, vocabulary) from position prefill-1 on: a prefill, then one token at a time."""
    config = load_config(directory)
    _, executor = open_executor(directory, config)
    lease = Lease(slot=0, pages=list(range(1, 1 + config.pages_for(len(tokens)))))
    request = Request(1, len(tokens), tokens, SamplingParams(), lambda event: None, lease=lease)
    executor.move([ClearSlot(0), ClearPages(lease.pages)])
    sizes = [prefill, *[1] * (len(tokens) - prefill)]
    starts = [0, *range(prefill, len(tokens))]
    logits = []
    for start, size in zip(starts, sizes, strict=True):
        piece = Slice(request, start, size, is_last=True)
        logits.append(executor.run([piece]))
        lease.anchor = piece.next_anchor
    return torch.cat(logits)


def errors(logits: Tensor, expected: Tensor) -> tuple[float, float]:
    """Root mean square and 99.9th percentile of the difference."""
    difference = (logits - expected).abs().flatten()
    return float(difference.square().mean().sqrt()), float(difference.quantile(0.999))


def agreement(logits: Tensor, expected: Tensor) -> float:
    """The share of positions at which both have the same greedy choice."""
    return float((logits.argmax(-1) == expected.argmax(-1)).float().mean())
