"""Run many requests in each other's company, and note the logits of every prefix that was computed."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from nemotron_api.hybrid_config import HybridConfig
from nemotron_runtime import Guide, HybridEngine, SamplingParams, Terms
from nemotron_runtime.config import load_config
from nemotron_runtime.draft_length import Acceptance
from nemotron_runtime.executor import ChooseDrafts, Executor, open_executor
from nemotron_runtime.guides import open_guides
from nemotron_runtime.moves import Move
from nemotron_runtime.opening import open_ledger
from nemotron_runtime.request import Request
from nemotron_runtime.scheduler import Slice
from nemotron_runtime.speculation import Drafter, Module, Speculation
from tests.builders.governors import AlwaysDrafting, Fickle
from tests.builders.streams import Stream, start

AT_ONCE = 5

Prefix = tuple[int, ...]
"""What was computed; it begins with the request's seed where states are rounded, which that decides."""

Opener = Callable[..., tuple[HybridConfig, Executor]]
"""`open_executor`, or something that wraps what it opens."""


@dataclass(slots=True)
class Recorder:
    """An executor that remembers what followed which prefix; computing one again must give the same bits."""

    executor: Executor
    logits: dict[Prefix, Tensor]
    by_seed: bool
    differing: list[Prefix] = field(default_factory=list)
    rows: int = 0
    drafts: dict[Prefix, tuple[int, ...]] = field(default_factory=dict)
    """What was drafted, by seed and prefix."""
    differing_drafts: list[Prefix] = field(default_factory=list)

    def enter(self) -> None:
        self.executor.enter()

    @property
    def has_module(self) -> bool:
        return self.executor.has_module

    def draft(self, slices: Sequence[Slice], lengths: Sequence[int], choose: ChooseDrafts) -> list[tuple[int, ...]]:
        drafts = self.executor.draft(slices, lengths, choose)
        for piece, draft in zip(slices, drafts, strict=True):
            known = self.drafts.setdefault((piece.request.sampling.seed, *piece.request.tokens), draft)
            shared = min(len(known), len(draft))
            if known[:shared] != draft[:shared]:
                self.differing_drafts.append(tuple(piece.request.tokens))
        return drafts

    def move(self, moves: Sequence[Move]) -> None:
        self.executor.move(moves)

    def run(self, slices: Sequence[Slice], *, drafting: bool = False) -> Tensor:
        logits = self.executor.run(slices, drafting=drafting)
        prefixes = [
            (*self._begins(piece), *piece.request.tokens, *piece.drafts[:draft])
            for piece in slices
            if piece.is_last
            for draft in range(1 + len(piece.drafts))
        ]
        for prefix, row in zip(prefixes, logits, strict=True):
            self.rows += 1
            known = self.logits.setdefault(prefix, row.to("cpu", copy=True))
            if not torch.equal(known, row.cpu()):
                self.differing.append(prefix)
        return logits

    def _begins(self, piece: Slice) -> Prefix:
        return (piece.request.sampling.seed,) if self.by_seed else ()


@dataclass(slots=True)
class Guesser:
    """A drafter that knows the answers, and is wrong about every third token; seeded, so that runs repeat."""

    answers: Mapping[tuple[int, ...], Sequence[int]]
    dice: random.Random
    vocabulary: int
    _found: list[tuple[int, ...]] = field(default_factory=list)

    def limits(self, streams: Sequence[Request], most: Sequence[int]) -> list[int]:
        self._found = [self._guess(request, limit) for request, limit in zip(streams, most, strict=True)]
        return [len(found) for found in self._found]

    def draft(self, pieces: Sequence[Slice], lengths: Sequence[int]) -> list[tuple[int, ...]]:
        return [found[:length] for found, length in zip(self._found, lengths, strict=True)]

    def forget(self, requests: Sequence[Request]) -> None: ...

    def _guess(self, request: Request, most: int) -> tuple[int, ...]:
        answer = self.answers[tuple(request.tokens[: request.prompt_tokens])]
        right = answer[request.generated : request.generated + self.dice.randint(0, max(0, most))]
        wrong = (self.dice.random() < 1 / 3 for _ in right)
        return tuple(
            self.dice.randrange(self.vocabulary) if is_wrong else token
            for token, is_wrong in zip(right, wrong, strict=True)
        )


@dataclass(frozen=True, slots=True)
class AsManyAsPossible:
    """Draft lengths that do not look at the cost, up to a limit of the dice's."""

    dice: random.Random

    def decide(self, known: Sequence[Acceptance], limits: Sequence[int]) -> list[int]:
        return [self.dice.randint(0, limit) for limit in limits]

    def learn(self, lengths: Sequence[int], accepted: Sequence[int], seconds: float | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a crowd."""

    prompt: tuple[int, ...]
    max_tokens: int
    priority: int = 0
    temperature: float = 0.0
    seed: int = 0
    guide: Guide | None = None
    prompt_logprobs: int | None = None

    @property
    def sampling(self) -> SamplingParams:
        return SamplingParams(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            seed=self.seed,
            ignore_eos=True,
            guide=self.guide,
            prompt_logprobs=self.prompt_logprobs,
        )


@dataclass(frozen=True, slots=True)
class Room:
    """How an engine is furnished."""

    max_batch: int = 4
    cache_slots: int = 2
    pages: int = 200
    prefill_tokens: int = 64
    park_bytes: int | None = None
    park_directory: Path | None = None


def serve(
    directory: Path,
    asks: Sequence[Ask],
    room: Room,
    logits: dict[Prefix, Tensor],
    drafter: Drafter | Literal["module"] | None = None,
    *,
    exact: bool,
    drafts: dict[Prefix, tuple[int, ...]] | None = None,
    opener: Opener = open_executor,
) -> tuple[list[list[int]], Recorder, HybridEngine]:
    """The answers, in order. The first few requests arrive at once, each other one with a token of one before it."""
    runtime = replace(load_config(directory), max_batch=room.max_batch, cache_slots=room.cache_slots, pages=room.pages)
    parking = {"park_bytes": room.park_bytes, "park_directory": room.park_directory}
    config, executor = opener(directory, runtime, threads=1, exact=exact, **parking)
    by_seed = runtime.state_dtype != "FP32"
    recorder = Recorder(executor, logits, by_seed, drafts={} if drafts is None else drafts)
    uses_module = drafter == "module"
    ledger = open_ledger(config, runtime, prefill_tokens=room.prefill_tokens, uses_module=uses_module)
    found = Module(recorder) if drafter == "module" else drafter
    # Where drafts are compared, nothing may be missing that a module would have seen.
    governor = Fickle(random.Random(7)) if drafts is None else AlwaysDrafting()
    speculation = Speculation(found, AsManyAsPossible(random.Random(7)), governor) if found else None
    engine = HybridEngine(
        recorder,
        ledger,
        runtime,
        vocab_size=config.vocab_size,
        max_waiting=len(asks),
        speculation=speculation,
        guides=open_guides(directory, config.vocab_size, frozenset(runtime.eos_token_ids)),
    )
    streams: list[Stream] = []
    for number, ask in enumerate(asks):
        if number >= AT_ONCE:
            streams[number - AT_ONCE].next()
        streams.append(start(engine, ask.prompt, ask.sampling, Terms(priority=ask.priority)))
    answers = [stream.tokens() for stream in streams]
    engine.close()
    return answers, recorder, engine
