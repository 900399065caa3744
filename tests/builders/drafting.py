"""Run a multi-token-prediction module by itself: hidden states from the oracle, keys and values in real pages."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig, read_config
from nemotron_api.layout import layout
from nemotron_runtime import batch, mtp, pack
from nemotron_runtime.arithmetic import FAST, Arithmetic
from nemotron_runtime.batch import Batch
from nemotron_runtime.config import WEIGHTS, load_config
from nemotron_runtime.memory import Memory
from nemotron_runtime.request import Lease, Request
from nemotron_runtime.scheduler import Slice
from nemotron_runtime.tensorfile import read_tensors
from nemotron_runtime.types import SamplingParams
from tests.builders.checkpoints import a_checkpoint
from tests.builders.members import with_mtp

LIMIT = 80
"""Tokens of a sequence."""


def a_drafting_checkpoint(directory: Path, pattern: str = "*E", **changes: Any) -> Path:
    """A random model of the TINY shape with a random module."""
    return with_mtp(a_checkpoint(directory, **changes), pattern)


def an_engine(checkpoint: Path, out: Path, sequences: int = 3) -> Path:
    """The checkpoint packed for as many sequences, in FP32."""
    pack(checkpoint, out, dtype="FP32", max_batch=sequences, max_sequence_tokens=LIMIT)
    return out


def engine_tensors(engine: Path) -> dict[str, Tensor]:
    return read_tensors(engine / WEIGHTS, layout(read_config(engine)), torch.float32)


class Drafter:
    """The module of an engine, and memory for as many sequences as that was packed for."""

    def __init__(self, engine: Path, arithmetic: Arithmetic = FAST) -> None:
        self.config: HybridConfig = read_config(engine)
        found = mtp.build(self.config, engine_tensors(engine), arithmetic)
        assert found is not None
        self.module, runtime = found, load_config(engine)
        self.memory = Memory(mtp.with_room(self.config), runtime)
        self.requests = [_request(slot, runtime.pages_for(LIMIT)) for slot in range(runtime.max_batch)]

    def batch(self, *pieces: tuple[int, int, int]) -> Batch:
        """The batch of (sequence, start, tokens), ordered by tokens."""
        slices = [Slice(self.requests[row], start, count, is_last=False) for row, start, count in pieces]
        return batch.build(slices, self.config, self.memory.page_tokens)

    @torch.inference_mode()
    def run(self, hidden: Tensor, following: Sequence[int], *pieces: tuple[int, int, int]) -> Tensor:
        """The module's output (t, d) for the rows of these pieces, one after the other."""
        return self.module(hidden.float(), torch.tensor(following), self.batch(*pieces), self.memory)

    @torch.inference_mode()
    def draft(self, hidden: Tensor, lengths: Sequence[int], positions: Sequence[int]) -> list[tuple[int, ...]]:
        """Greedy drafts after the outputs (b, d) for the sequences' last rows, at `positions`."""

        def further(rows: Sequence[int], on: int) -> Batch:
            return self.batch(*[(row, positions[row] + on, 1) for row in rows])

        def choose(logits: Tensor, rows: Sequence[int], drafts: Sequence[Sequence[int]]) -> list[int]:
            assert len(logits) == len(rows) == len(drafts)
            chosen: list[int] = logits.argmax(-1).tolist()
            return chosen

        return mtp.draft(self.module, hidden, lengths, self.memory, further, choose)


def _request(slot: int, pages: int) -> Request:
    # Pages in an order of their own, so that reading one of the wrong number shows.
    own = [1 + slot * pages + (page + 1) % pages for page in range(pages)]
    return Request(slot, 0, [0] * LIMIT, SamplingParams(), print, lease=Lease(slot, own))
