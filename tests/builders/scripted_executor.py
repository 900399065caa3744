"""An executor that computes nothing: a rule says what follows a text, and a test what happens meanwhile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nemotron_runtime import HybridEngine, SamplingParams, Terms
from nemotron_runtime.config import PAGE_TOKENS, RuntimeConfig
from nemotron_runtime.draft_length import Acceptance
from nemotron_runtime.executor import ChooseDrafts
from nemotron_runtime.ledger import Ledger
from nemotron_runtime.moves import Move, Park, Resume
from nemotron_runtime.prefix_cache import PrefixCache
from nemotron_runtime.request import Request
from nemotron_runtime.scheduler import Budget, Slice, Step
from nemotron_runtime.speculation import MOST_DRAFTS, LookUp, Module, Speculation
from nemotron_runtime.types import DEFAULT_TERMS
from tests.builders.governors import AlwaysDrafting

VOCABULARY = 61
SLOT_BYTES, PAGE_BYTES = 1000, 100


def following(text: Sequence[int]) -> int:
    """What the rule says: never a token below 5."""
    return 5 + (7 * text[-1] + len(text)) % (VOCABULARY - 5)


def answer_to(prompt: Sequence[int], tokens: int) -> list[int]:
    """The first tokens of the answer that the rule gives."""
    text = list(prompt)
    for _ in range(tokens):
        text.append(following(text))
    return text[len(prompt) :]


@dataclass(slots=True)
class ScriptedExecutor:
    """Chooses by the rule. `before` is called on the engine's thread with each call's name and, of `run`, its slices.

    What `before` raises, the call raises.
    """

    has_module: bool = False
    before: Callable[[str, Sequence[Slice]], None] = lambda call, slices: None
    is_spoiled: Callable[[Slice, int], bool] = lambda piece, row: False
    """Whether the logits of a slice's row are no numbers: row 0 is the confirmed token's, the others' its drafts'."""
    moves: list[Move] = field(default_factory=list)

    def enter(self) -> None:
        self.before("enter", ())

    def move(self, moves: Sequence[Move]) -> None:
        if moves:
            self.before("move", ())
        for move in moves:
            match move:
                case Park(request) if request.parked:
                    request.parked.content = tuple(request.tokens[: request.computed])
                case Resume(request) if request.parked:
                    assert request.parked.content == tuple(request.tokens[: request.computed])
                    request.parked = None
        self.moves += moves

    def run(self, slices: Sequence[Slice], *, drafting: bool = False) -> Tensor:
        self.before("run", slices)
        rows = [(piece, row) for piece in slices if piece.is_last for row in range(1 + len(piece.drafts))]
        logits = torch.zeros(len(rows), VOCABULARY)
        for number, (piece, row) in enumerate(rows):
            logits[number, following([*piece.request.tokens, *piece.drafts[:row]])] = 9.0
            if self.is_spoiled(piece, row):
                logits[number] = torch.nan
        return logits

    def draft(self, slices: Sequence[Slice], lengths: Sequence[int], choose: ChooseDrafts) -> list[tuple[int, ...]]:
        self.before("draft", slices)
        return [tuple(answer_to(piece.request.tokens, n)) for piece, n in zip(slices, lengths, strict=True)]


@dataclass(frozen=True, slots=True)
class Always:
    """Draft lengths that do not look at the cost."""

    length: int

    def decide(self, known: Sequence[Acceptance], limits: Sequence[int]) -> list[int]:
        return [min(self.length, limit) for limit in limits]

    def learn(self, lengths: Sequence[int], accepted: Sequence[int], seconds: float | None) -> None: ...


def a_ledger(*, running: int = 3, slots: int = 5, pages: int = 64, prefill_tokens: int = 64, ahead: int = 0) -> Ledger:
    budget = Budget(prefill_tokens, PAGE_TOKENS, running=running, ahead=ahead)
    return Ledger(slots, pages, budget, PrefixCache(SLOT_BYTES, PAGE_BYTES))


def an_engine(
    executor: ScriptedExecutor,
    *,
    running: int = 3,
    slots: int = 5,
    pages: int = 64,
    prefill_tokens: int = 64,
    max_waiting: int = 1000,
    drafts: int = 0,
) -> HybridEngine:
    """An engine whose steps cost nothing. With `drafts` it drafts that many tokens, by a module if there is one."""
    ahead = MOST_DRAFTS if executor.has_module else 0
    ledger = a_ledger(running=running, slots=slots, pages=pages, prefill_tokens=prefill_tokens, ahead=ahead)
    runtime = RuntimeConfig("FP32", running, slots - running, pages * PAGE_TOKENS, PAGE_TOKENS, pages, ())
    drafter = Module(executor) if ahead else LookUp()
    speculation = Speculation(drafter, Always(drafts), AlwaysDrafting()) if drafts else None
    return HybridEngine(
        executor, ledger, runtime, vocab_size=VOCABULARY, max_waiting=max_waiting, speculation=speculation
    )


def a_request(number: int, prompt: Sequence[int], max_tokens: int, terms: Terms = DEFAULT_TERMS) -> Request:
    sampling = SamplingParams(max_tokens=max_tokens)
    return Request(number, len(prompt), list(prompt), sampling, lambda event: None, terms, stops=[len(prompt)])


def play(ledger: Ledger, executor: ScriptedExecutor, steps: int = 1) -> list[Step]:
    """Do with the books what an engine does, without a thread; requests that end are struck out."""
    played = []
    for _ in range(steps):
        step, moves = ledger.next_step()
        executor.move(moves)
        for piece in step.slices:
            chosen = [following(piece.request.tokens)] if piece.is_last else []
            executor.move(ledger.advance(piece, chosen))
            if chosen and piece.request.finish_reason:
                ledger.finish(piece.request)
        played.append(step)
    return played
