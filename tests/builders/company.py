"""Run many requests in each other's company, and note the logits of every prefix that was computed."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from nemotron_runtime import HybridEngine, SamplingParams, Terms
from nemotron_runtime.config import load_config
from nemotron_runtime.engine import open_ledger
from nemotron_runtime.executor import open_executor
from nemotron_runtime.moves import Move
from nemotron_runtime.request import Request
from nemotron_runtime.scheduler import Slice
from tests.builders.streams import Stream, start

AT_ONCE = 5

Prefix = tuple[int, ...]


@dataclass(slots=True)
class Recorder:
    """An executor that remembers what followed which prefix; computing one again must give the same bits."""

    executor: object
    logits: dict[Prefix, Tensor]
    differing: list[Prefix] = field(default_factory=list)
    rows: int = 0

    def enter(self) -> None:
        self.executor.enter()  # type: ignore[attr-defined]

    def move(self, moves: Sequence[Move]) -> None:
        self.executor.move(moves)  # type: ignore[attr-defined]

    def run(self, slices: Sequence[Slice]) -> Tensor:
        logits: Tensor = self.executor.run(slices)  # type: ignore[attr-defined]
        prefixes = [
            (*piece.request.tokens, *piece.drafts[:draft])
            for piece in slices
            if piece.is_last
            for draft in range(1 + len(piece.drafts))
        ]
        for prefix, row in zip(prefixes, logits, strict=True):
            self.rows += 1
            known = self.logits.setdefault(prefix, row.clone())
            if not torch.equal(known, row):
                self.differing.append(prefix)
        return logits


@dataclass(frozen=True, slots=True)
class Guesser:
    """A drafter that knows the answers, and is wrong about every third token; seeded, so that runs repeat."""

    answers: Mapping[Prefix, Sequence[int]]
    dice: random.Random
    vocabulary: int

    def propose(self, request: Request, most: int) -> list[int]:
        answer = self.answers[tuple(request.tokens[: request.prompt_tokens])]
        right = list(answer[request.generated : request.generated + self.dice.randint(0, most)])
        return [self.dice.randrange(self.vocabulary) if self.dice.random() < 1 / 3 else token for token in right]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request of a crowd."""

    prompt: Prefix
    max_tokens: int
    priority: int = 0
    temperature: float = 0.0
    seed: int = 0

    @property
    def sampling(self) -> SamplingParams:
        return SamplingParams(max_tokens=self.max_tokens, temperature=self.temperature, seed=self.seed, ignore_eos=True)


@dataclass(frozen=True, slots=True)
class Room:
    """How an engine is furnished."""

    max_batch: int = 4
    cache_slots: int = 2
    pages: int = 200
    prefill_tokens: int = 64


def serve(
    directory: Path,
    asks: Sequence[Ask],
    room: Room,
    logits: dict[Prefix, Tensor],
    drafter: Guesser | None = None,
    *,
    exact: bool,
) -> tuple[list[list[int]], Recorder, HybridEngine]:
    """The answers, in order. The first few requests arrive at once, each other one with a token of one before it."""
    runtime = replace(load_config(directory), max_batch=room.max_batch, cache_slots=room.cache_slots, pages=room.pages)
    config, executor = open_executor(directory, runtime, threads=1, exact=exact)
    recorder = Recorder(executor, logits)
    ledger = open_ledger(config, runtime, prefill_tokens=room.prefill_tokens)
    engine = HybridEngine(
        recorder, ledger, runtime, vocab_size=config.vocab_size, max_waiting=len(asks), drafter=drafter
    )
    streams: list[Stream] = []
    for number, ask in enumerate(asks):
        if number >= AT_ONCE:
            streams[number - AT_ONCE].next()
        streams.append(start(engine, ask.prompt, ask.sampling, Terms(priority=ask.priority)))
    answers = [stream.tokens() for stream in streams]
    engine.close()
    return answers, recorder, engine
