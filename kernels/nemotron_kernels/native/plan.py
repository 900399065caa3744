"""Run whole decode steps of a network in one call each."""

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from nemotron_kernels.native.describe import Described, address
from nemotron_kernels.native.interface import ISAS, StepStruct
from nemotron_kernels.native.library import best_isa, load
from nemotron_kernels.native.network import Attention, Mamba, Network

NUMBER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Piece:
    """The next few tokens of one sequence."""

    tokens: Sequence[int]
    slot: int
    start: int
    """Position of the first of them."""
    anchor: int
    """Tokens that the slot's state holds, once what is due is committed."""
    is_due: bool
    """Whether the anchor moves on by a block before."""


class Plan:
    """A network in the library's form, and threads - 1 threads of its own; `close` ends them."""

    def __init__(self, network: Network, *, threads: int = 1, isa: int | None = None) -> None:
        """`isa`, one of interface.ISAS, forces a lesser set of instructions than the best there is.

        Raises NativeMissing without a library or instructions for it, ValueError for tensors it would misread, and
        MemoryError where the system refuses memory or threads.
        """
        self._library = load()
        self.isa = best_isa() if isa is None else isa
        if self.isa not in ISAS or self.isa > best_isa():
            raise ValueError(f"set of instructions {self.isa}: this processor has up to {best_isa()}")
        if threads < 1:
            raise ValueError(f"{threads} threads: at least the caller's own is needed")
        self._described = Described(network)
        self._limits = _Limits.of(network)
        handle = self._library.nk_open(ctypes.byref(self._described.model), threads, self.isa)
        if not handle:
            raise MemoryError(f"no memory or no threads for a plan of {threads} threads: start fewer")
        self._handle: int | None = handle
        self._close = weakref.finalize(self, self._library.nk_close, handle)

    def close(self) -> None:
        """End the threads; nothing can be run afterwards."""
        self._close()
        self._handle = None

    def run(
        self, pieces: Sequence[Piece], tables: Tensor, yields: Sequence[int], *, wants_normed: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Compute pieces, whose rows lie one piece after the other, and advance their memory.

        tables: (b, n) INT64 page ids; yields: rows whose logits are wanted. Returns FP32 logits (yields, v), and, if
        wanted, all rows after the final norm (t, d), FP32. Raises ValueError for numbers that point outside the
        network's memory, before anything is read or written.
        """
        if self._handle is None:
            raise ValueError("the plan is closed: open another one")
        self._limits.check(pieces, tables, yields)
        model, rows = self._described.model, sum(len(piece.tokens) for piece in pieces)
        logits = torch.empty(len(yields), model.vocabulary)
        normed = torch.empty(rows, model.hidden) if wants_normed else None
        of_pieces = [(len(piece.tokens), piece.slot, piece.start, piece.anchor, int(piece.is_due)) for piece in pieces]
        columns = [list(chain.from_iterable(piece.tokens for piece in pieces)), *zip(*of_pieces, strict=True), yields]
        numbers = torch.tensor(list(chain.from_iterable(columns)))
        at = numbers.data_ptr()
        addresses = []
        for column in columns:
            addresses.append(at)
            at += NUMBER_BYTES * len(column)
        *before, yielding = addresses
        step = StepStruct(
            rows, len(pieces), len(yields), tables.shape[1], *before, tables.data_ptr(), yielding, logits.data_ptr(),
            None if normed is None else normed.data_ptr(),
        )  # fmt: skip
        if self._library.nk_step(self._handle, ctypes.byref(step)):
            raise MemoryError(f"no memory for a step of {rows} rows: run fewer sequences")
        return logits, normed


@dataclass(frozen=True, slots=True)
class _Limits:
    """How much of everything a network and its memory have."""

    words: int
    slots: int | None
    ring: int | None
    pages: int | None
    page_tokens: int
    block_tokens: int
    has_rounded_states: bool

    @classmethod
    def of(cls, network: Network) -> "_Limits":
        mamba = next((block for block in network.blocks if isinstance(block, Mamba)), None)
        attention = next((block for block in network.blocks if isinstance(block, Attention)), None)
        return cls(
            words=network.embeddings.shape[0],
            slots=mamba.before.shape[0] if mamba else None,
            ring=mamba.sums.shape[2] if mamba else None,
            pages=attention.keys.shape[0] if attention else None,
            page_tokens=attention.keys.shape[1] if attention else 1,
            block_tokens=network.block_tokens,
            has_rounded_states=mamba is not None and mamba.states[0].dtype != torch.float32,
        )

    def check(self, pieces: Sequence[Piece], tables: Tensor, yields: Sequence[int]) -> None:
        """Raise ValueError, saying what, for the first number that points outside."""
        rows = 0
        for piece in pieces:
            self._check(piece)
            rows += len(piece.tokens)
        if any(not 0 <= row < rows for row in yields):
            raise ValueError(f"yields {list(yields)} are not all among {rows} rows")
        if self.pages is None:
            return
        address("tables", tables, torch.long, (len(pieces), None))
        stop = max((piece.start + len(piece.tokens) for piece in pieces), default=0)
        if stop > tables.shape[1] * self.page_tokens:
            raise ValueError(f"tables of {tables.shape[1]} pages hold no {stop} tokens")
        if tables.numel() and not (int(tables.min()) >= 0 and int(tables.max()) < self.pages):
            raise ValueError(f"tables name pages beyond the {self.pages} there are")

    def _check(self, piece: Piece) -> None:
        stop = piece.start + len(piece.tokens)
        if not piece.tokens or min(piece.tokens) < 0 or max(piece.tokens) >= self.words:
            raise ValueError(f"tokens {list(piece.tokens)} must be one or more of {self.words}")
        if self.slots is not None and not 0 <= piece.slot < self.slots:
            raise ValueError(f"slot {piece.slot} is none of {self.slots}")
        if piece.anchor % self.block_tokens or not 0 <= piece.anchor <= piece.start:
            raise ValueError(f"anchor {piece.anchor} is no multiple of {self.block_tokens} up to {piece.start}")
        if self.ring is not None and stop - piece.anchor > self.ring:
            raise ValueError(f"a ring of {self.ring} places holds no {stop - piece.anchor} tokens")
        if piece.is_due and (self.has_rounded_states or piece.anchor < self.block_tokens):
            raise ValueError(f"a commit to anchor {piece.anchor} needs a block before it, and FP32 states")
