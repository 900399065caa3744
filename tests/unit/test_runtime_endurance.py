"""After ten thousand requests an engine holds what it held before, and every unit is free or kept."""

import gc
import random
import threading
import types
from typing import Any

import pytest

from nemotron_runtime import HybridEngine, SamplingParams, Terms, TokenEvent
from tests.builders.gate import until
from tests.builders.scripted_executor import ScriptedExecutor, an_engine
from tests.builders.streams import PATIENCE_SECONDS

pytestmark = pytest.mark.unit

REQUESTS, SETTLED = 10_000, 2_500
AT_ONCE = 20
OBJECTS_PER_REQUEST = 0.2
"""What fewer requests than this leave behind is the cache's, which is full by then, going up and down."""


def objects_behind(root: Any) -> int:
    """How many objects are alive for `root`'s sake: all that are reached from it, but for code."""
    seen: set[int] = set()
    left = [root]
    while left:
        each = left.pop()
        code = types.ModuleType, type, types.FunctionType, types.CodeType, types.BuiltinFunctionType, threading.Thread
        if id(each) in seen or isinstance(each, code):
            continue
        seen.add(id(each))
        left += gc.get_referents(each)
    return len(seen)


class Crowd:
    """Random short requests, some aborted, some alike, of many clients; so many at once."""

    def __init__(self, engine: HybridEngine, executor: ScriptedExecutor) -> None:
        self.engine, self.executor = engine, executor
        self.dice = random.Random(0)
        self.room = threading.Semaphore(AT_ONCE)
        self.stems = [[self.dice.randrange(5, 61) for _ in range(60)] for _ in range(40)]
        self.ends: list[str] = []

    def sink(self, event: TokenEvent) -> None:
        if event.finish_reason:
            self.ends.append(event.finish_reason)
            self.room.release()

    def send(self, count: int) -> None:
        dice = self.dice
        for _ in range(count):
            assert self.room.acquire(timeout=PATIENCE_SECONDS)
            prompt = [
                *dice.choice(self.stems)[: dice.randint(0, 60)],
                *dice.choices(range(5, 61), k=dice.randint(1, 9)),
            ]
            terms = Terms(client=f"client {dice.randrange(300)}", priority=dice.randint(0, 1), salt=dice.choice("ab"))
            number = self.engine.submit(prompt, SamplingParams(max_tokens=dice.randint(1, 6)), self.sink, terms=terms)
            if dice.random() < 0.1:
                self.engine.abort(number)
        for _ in range(AT_ONCE):
            assert self.room.acquire(timeout=PATIENCE_SECONDS)
        self.room.release(AT_ONCE)
        self.executor.moves.clear()


@pytest.mark.parametrize("has_module", [True, False], ids=["drafts-of-a-module", "drafts-by-look-up"])
def test_ten_thousand_requests_leave_nothing_behind(has_module: bool) -> None:
    executor = ScriptedExecutor(has_module=has_module)
    engine = an_engine(executor, running=4, slots=12, pages=40, drafts=2)
    crowd = Crowd(engine, executor)

    crowd.send(SETTLED)
    settled = objects_behind(engine)
    crowd.send(REQUESTS - SETTLED)

    stats = engine.stats()
    until(lambda: (engine.stats().state_slots_used, engine.stats().kv_pages_used) == (0, 0))
    assert len(crowd.ends) == REQUESTS
    assert set(crowd.ends) == {"length", "aborted"}
    assert min(stats.preemptions, stats.prefix_hit_tokens, stats.drafted_tokens) > 0
    assert objects_behind(engine) - settled < OBJECTS_PER_REQUEST * (REQUESTS - SETTLED)
    engine.close()
