"""Run an executor by hand, sequence by sequence, without an engine or its books."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig
from nemotron_runtime import SamplingParams
from nemotron_runtime.config import load_config
from nemotron_runtime.executor import TorchExecutor, open_executor
from nemotron_runtime.moves import ClearPages, ClearSlot, CopyPage, CopySlot
from nemotron_runtime.request import Lease, Request
from nemotron_runtime.scheduler import Slice

Opener = Callable[..., tuple[HybridConfig, TorchExecutor]]
"""`open_executor`, or something that stands for it."""

Part = tuple[Request, int, tuple[int, ...]]
"""A sequence, how many of its tokens to compute, and drafts after them."""


class Player:
    """An engine's executor; sequences hold the slots and pages that a test gives them."""

    def __init__(self, directory: Path, *, exact: bool = True, opener: Opener = open_executor) -> None:
        self.runtime = load_config(directory)
        self.config, self.executor = opener(directory, self.runtime, threads=1, exact=exact)
        self.memory = self.executor.memory

    def pages(self, slot: int, tokens: int) -> list[int]:
        """Pages that no other slot's sequence has, in an order of their own."""
        first = 1 + slot * self.runtime.pages_for(self.runtime.max_sequence_tokens)
        count = self.runtime.pages_for(tokens)
        return [first + (page + 1) % count for page in range(count)]

    def begin(self, tokens: Sequence[int], slot: int = 0) -> Request:
        """A sequence of which nothing is computed yet."""
        lease = Lease(slot, self.pages(slot, len(tokens)))
        self.executor.move([ClearSlot(slot), ClearPages(lease.pages)])
        return _request(tokens, lease)

    def fork(self, source: Request, cut: int, tokens: Sequence[int], slot: int) -> Request:
        """A sequence that goes on from the first `cut` tokens of another one, as a prefix hit does."""
        size, own = self.runtime.page_tokens, self.pages(slot, len(tokens))
        shared = cut // size
        pages = [*source.held.pages[:shared], *own[shared:]]
        self.executor.move([CopySlot(source.held.slot, slot), ClearPages(own[shared:])])
        if cut % size:
            self.executor.move([CopyPage(source.held.pages[shared], pages[shared], cut % size)])
        request = _request(tokens, Lease(slot, pages, source.held.anchor, source.held.written))
        request.computed = cut
        return request

    def compute(self, *parts: Part) -> list[Tensor]:
        """One step. Logits (1 + drafts, vocabulary) of each part; its drafts are not accepted yet."""
        pieces = [
            Slice(request, request.computed, count + len(drafts), is_last=True, drafts=drafts)
            for request, count, drafts in parts
        ]
        order = sorted(range(len(pieces)), key=lambda place: pieces[place].tokens)
        rows = self.executor.run([pieces[place] for place in order])
        found = torch.split(rows, [1 + len(pieces[place].drafts) for place in order])
        for piece in pieces:
            piece.lease.anchor, piece.lease.written = piece.next_anchor, max(piece.lease.written, piece.stop)
            piece.request.computed = piece.start + piece.confirmed
        return [logits for _, logits in sorted(zip(order, found, strict=True), key=lambda each: each[0])]

    def feed(self, request: Request, counts: Sequence[int]) -> Tensor:
        """The sequence's next tokens, in pieces of these sizes: logits (pieces, vocabulary) after each piece."""
        return torch.cat([self.compute((request, count, ()))[0] for count in counts])


def _request(tokens: Sequence[int], lease: Lease) -> Request:
    return Request(1, len(tokens), list(tokens), SamplingParams(), lambda event: None, lease=lease)
