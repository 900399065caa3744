"""Compute a step."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, assert_never

import torch
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig, read_config
from nemotron_api.layout import layout
from nemotron_kernels.choose import Kernels
from nemotron_runtime import batch, model, mtp, prompt_scores
from nemotron_runtime.arithmetic import EXACT, FAST, TRITON
from nemotron_runtime.batch import Batch, first_rows
from nemotron_runtime.config import CONFIG, DTYPES, WEIGHTS, RuntimeConfig
from nemotron_runtime.device import choose_device, round_as_typed
from nemotron_runtime.memory import Memory
from nemotron_runtime.moves import ClearPages, ClearSlot, ClearTail, CopyPage, CopySlot, Move, Park, Resume
from nemotron_runtime.native import NativeSteps, choose_kernels
from nemotron_runtime.parking import Parking, open_parking
from nemotron_runtime.process import choose_threads, keep_freed_memory, usable_cores
from nemotron_runtime.request import Request
from nemotron_runtime.scheduler import Slice
from nemotron_runtime.tails import WINDOW, check_taps
from nemotron_runtime.tensorfile import read_tensors
from nemotron_runtime.transfer import transferred

ChooseDrafts = Callable[[Tensor, Sequence[Request], Sequence[Sequence[int]]], Sequence[int]]
"""FP32 logits (r, vocabulary), r requests, and what was drafted for each so far → r tokens."""


class Executor(Protocol):
    """What the engine asks of whatever holds the weights."""

    def enter(self) -> None:
        """Called once, first, on the thread that makes all other calls."""

    def move(self, moves: Sequence[Move]) -> None:
        """Do what the books say was done to slots and pages, in order."""

    def run(self, slices: Sequence[Slice], *, drafting: bool = False) -> Tensor:
        """Compute slices, ordered by their number of tokens; `drafting` where `draft` shall be called after it.

        Returns FP32 logits (rows, vocabulary): in the order of the slices, for each that is its request's last one
        row for its last confirmed token and one for each draft. What requests want to know of their prompts is noted
        in them.
        """

    def draft(self, slices: Sequence[Slice], lengths: Sequence[int], choose: ChooseDrafts) -> list[tuple[int, ...]]:
        """Guess `lengths[i]` tokens after slice i's request, which knows by now what followed it.

        Called at most once after each `run` that was told of it, with its slices; only where `has_module`. A module
        that was left out for a while sees nothing where the tokens of that time are, and guesses worse.
        """

    @property
    def has_module(self) -> bool:
        """Whether the model has a multi-token-prediction module."""


class TorchExecutor:
    """Plain torch: one pass of the network per step, all its sequences together."""

    def __init__(
        self,
        config: HybridConfig,
        network: model.Model,
        module: mtp.Mtp | None,
        memory: Memory,
        *,
        threads: int,
        parking: Parking,
        native: NativeSteps | None = None,
    ) -> None:
        """`native` computes what windows there are; without it, torch computes all."""
        self._config = config
        self._parking = parking
        self._network = network
        self._module = module
        self._native = native
        self._threads = threads
        self._last: tuple[Batch, Tensor] | None = None
        """The batch computed last, with its rows after the final norm, for the module."""
        self.memory = memory

    @property
    def has_module(self) -> bool:
        return self._module is not None

    def enter(self) -> None:
        # OpenMP keeps its count of threads per calling thread: set elsewhere, it would not hold here.
        torch.set_num_threads(self._threads)

    @torch.inference_mode()
    def move(self, moves: Sequence[Move]) -> None:
        for each in moves:
            self._move(each)

    @torch.inference_mode()
    def run(self, slices: Sequence[Slice], *, drafting: bool = False) -> Tensor:
        keeping = drafting or prompt_scores.are_wanted(slices)
        few = sum(piece.tokens <= WINDOW for piece in slices) if self._native else 0
        rows: Batch | None
        if self._native is None or not few:
            rows = self._batch(slices)
            logits, normed = self._run(rows, keeping=keeping)
        else:
            logits, normed = self._run_both(self._native, slices, few, keeping=keeping)
            # What a module needs to know of the slices is only known now: some of them end with this step.
            rows = self._batch(slices) if drafting else None
        self._last = (rows, normed) if drafting and rows and normed is not None else None
        if normed is not None:
            prompt_scores.note(slices, normed, self._network.logits)
        return _computed(logits)

    @torch.inference_mode()
    def draft(self, slices: Sequence[Slice], lengths: Sequence[int], choose: ChooseDrafts) -> list[tuple[int, ...]]:
        if self._module is None or self._last is None:
            raise ValueError("nothing was computed that a module could go on from")
        (rows, normed), self._last = self._last, None
        # Of rows that broke nothing must stay in pages of the module's.
        normed = normed.nan_to_num()
        following, ends = transferred((_followers(slices), _ends(slices)), self.memory.device)
        if not any(lengths):
            self._module.remember(normed, following, rows, self.memory)
            return [()] * len(slices)
        hidden = self._module(normed, following, rows, self.memory).index_select(0, ends)
        requests = [piece.request for piece in slices]

        def further(places: Sequence[int], on: int) -> Batch:
            return self._batch([_ahead(requests[place], on) for place in places])

        def chosen(logits: Tensor, places: Sequence[int], drafts: Sequence[Sequence[int]]) -> Sequence[int]:
            return choose(logits, [requests[place] for place in places], drafts)

        return mtp.draft(self._module, hidden, lengths, self.memory, further, chosen)

    def _run(self, rows: Batch, *, keeping: bool) -> tuple[Tensor, Tensor | None]:
        """Logits, and all rows after the final norm where something goes on from them."""
        network = self._network
        h = network(rows, self.memory)
        if not keeping:
            return network.logits(network.norm(h.index_select(0, rows.yields))), None
        normed = network.norm(h)
        return network.logits(normed.index_select(0, rows.yields)), normed

    def _run_both(
        self, native: NativeSteps, slices: Sequence[Slice], few: int, *, keeping: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The same; the first `few` slices are windows, which the library computes."""
        logits, normed = native.run(slices[:few], wants_normed=keeping)
        if few == len(slices):
            return logits, normed
        more_logits, more_normed = self._run(self._batch(slices[few:]), keeping=keeping)
        logits = torch.cat([logits, more_logits])
        return logits, None if normed is None or more_normed is None else torch.cat([normed, more_normed])

    def _batch(self, slices: Sequence[Slice]) -> Batch:
        return transferred(batch.build(slices, self._config, self.memory.page_tokens), self.memory.device)

    def _move(self, move: Move) -> None:
        memory = self.memory
        match move:
            case ClearSlot(slot):
                memory.clear_slot(slot)
            case ClearPages(pages):
                memory.clear_pages(pages)
            case ClearTail(slot, pages, start, stop):
                memory.clear_tail(slot, pages, start, stop)
            case CopySlot(source, target):
                memory.copy_slot(source, target)
            case CopyPage(source, target, tokens):
                memory.copy_page(source, target, tokens)
            case Park(request, slot, pages):
                self._park(request, slot, pages)
            case Resume(request):
                assert request.parked, "the books resume what they parked"
                memory.write(request.held.slot, request.held.pages, request.parked.content.content())
                request.parked = None
            case other:
                assert_never(other)

    def _park(self, request: Request, slot: int, pages: Sequence[int]) -> None:
        """Keep what a session knows; one that nobody has room for is computed again, to the same tokens."""
        memory = self.memory
        has_room = self._parking.has_room(memory.slot_bytes + len(pages) * memory.page_bytes)
        kept = self._parking.keep(memory.read(slot, pages)) if has_room else None
        if kept is None or request.parked is None:
            request.start_over()
        else:
            request.parked.content = kept


def _computed(logits: Tensor) -> Tensor:
    """The logits once they are there: who times a step shall time its computation, not the asking for it."""
    if logits.is_cuda:
        torch.cuda.synchronize(logits.device)
    return logits


def _followers(slices: Sequence[Slice]) -> Tensor:
    return torch.tensor([token for piece in slices for token in _following(piece)])


def _ends(slices: Sequence[Slice]) -> Tensor:
    """The row of each request's last token that is computed and turned out to be right; the first where none is."""
    rows = zip(first_rows(slices), slices, strict=True)
    return torch.tensor([row + max(0, piece.request.computed - 1 - piece.start) for row, piece in rows])


def _following(piece: Slice) -> list[int]:
    """The token after each of a slice's; 0 after those that turned out wrong."""
    known = piece.request.tokens[piece.start + 1 : piece.stop + 1]
    return [*known, *[0] * (piece.tokens - len(known))]


def _ahead(request: Request, on: int) -> Slice:
    """The place of one draft, `on` tokens after the last one computed."""
    return Slice(request, request.computed - 1 + on, 1, is_last=False, drafts=(0,))


def open_executor(
    directory: Path,
    runtime: RuntimeConfig,
    *,
    threads: int | None = None,
    exact: bool = False,
    drafts: bool = True,
    device: str | None = "cpu",
    park_bytes: int | None = None,
    park_directory: Path | None = None,
    kernels: Kernels = "auto",
) -> tuple[HybridConfig, TorchExecutor]:
    """The model's shape and its executor, from what `pack` wrote; arguments as `open_engine` has them."""
    config, place = read_config(directory / CONFIG), choose_device(device)
    check_taps(config)
    choice = choose_kernels(kernels, place, exact=exact)
    tensors = read_tensors(directory / WEIGHTS, layout(config), DTYPES[runtime.dtype])
    if threads is None:
        weight_bytes = sum(tensor.nbytes for tensor in tensors.values()) if place.type == "cpu" else 0
        threads = choose_threads(weight_bytes, usable_cores())
    keep_freed_memory()
    round_as_typed()
    with torch.inference_mode():
        tensors = {name: tensor.to(place) for name, tensor in tensors.items()}
        fast = TRITON if choice.implementation == "triton" else FAST
        arithmetic = EXACT if exact else fast
        network = model.build(config, tensors, arithmetic)
        module = mtp.build(config, tensors, arithmetic) if drafts else None
    memory = Memory(mtp.with_room(config) if module else config, runtime, place)
    parking = open_parking(park_bytes, park_directory)
    steps = NativeSteps(config, network, memory, threads=threads) if choice.implementation == "native" else None
    return config, TorchExecutor(config, network, module, memory, threads=threads, parking=parking, native=steps)
