"""Collect an engine's streams."""

import queue
from collections.abc import Sequence
from dataclasses import dataclass, field

from nemotron_runtime import Engine, SamplingParams, Terms, TokenEvent
from nemotron_runtime.types import DEFAULT_TERMS

PATIENCE_SECONDS = 120


@dataclass(slots=True)
class Stream:
    """The events of one request, as they come."""

    id: int = 0
    arriving: "queue.SimpleQueue[TokenEvent]" = field(default_factory=queue.SimpleQueue)
    events: list[TokenEvent] = field(default_factory=list)

    def next(self) -> TokenEvent:
        """The next event; raises queue.Empty when none comes."""
        self.events.append(self.arriving.get(timeout=PATIENCE_SECONDS))
        return self.events[-1]

    def finish(self) -> TokenEvent:
        """The last event, once it is there."""
        while not self.events or self.events[-1].finish_reason is None:
            self.next()
        return self.events[-1]

    def tokens(self) -> list[int]:
        """Every token of the finished stream."""
        self.finish()
        return [event.token for event in self.events if event.token is not None]


def start(engine: Engine, prompt: Sequence[int], sampling: SamplingParams, terms: Terms = DEFAULT_TERMS) -> Stream:
    stream = Stream()
    stream.id = engine.submit(prompt, sampling, stream.arriving.put, terms=terms)
    return stream


def generate(engine: Engine, prompts: Sequence[Sequence[int]], sampling: SamplingParams) -> list[list[int]]:
    """The tokens of prompts that all run at the same time."""
    streams = [start(engine, prompt, sampling) for prompt in prompts]
    return [stream.tokens() for stream in streams]
