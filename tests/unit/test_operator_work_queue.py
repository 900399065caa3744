"""The work queue: keys once, never twice at a time, failures later and later."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_operator.work_queue import WorkQueue

pytestmark = pytest.mark.unit

Work = Callable[[str], Awaitable[None]]


class Failures:
    """Remembers what workers complained about."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Exception]] = []

    def __call__(self, key: str, error: Exception) -> None:
        self.seen.append((key, error))


@asynccontextmanager
async def workers(queue: WorkQueue[str], work: Work, count: int = 4) -> Any:
    failures = Failures()
    tasks = [asyncio.create_task(queue.run(work, failures)) for _ in range(count)]
    try:
        yield failures
        assert not any(task.done() for task in tasks), "a worker ended"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def settle() -> None:
    """Let every task run until all of them wait."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_key_marked_twice_is_worked_on_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    for key in "abab":
        queue.add(key)
    assert len(queue) == 2
    async with workers(queue, work):
        await settle()
    assert sorted(done) == ["a", "b"]


async def test_a_key_marked_during_its_work_is_worked_on_once_more() -> None:
    queue: WorkQueue[str] = WorkQueue()
    runs: list[int] = []

    async def work(key: str) -> None:
        runs.append(1)
        if len(runs) == 1:
            for _ in range(5):
                queue.add(key)
                await asyncio.sleep(0)

    queue.add("a")
    async with workers(queue, work):
        await settle()
    assert len(runs) == 2


@given(marks=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=40), count=st.integers(1, 5))
def test_no_key_is_worked_on_twice_at_once_and_the_last_mark_is_always_seen(
    marks: list[tuple[str, int]], count: int
) -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        running: set[str] = set()
        version = dict.fromkeys("abc", 0)
        seen = dict.fromkeys("abc", 0)

        async def work(key: str) -> None:
            assert key not in running, "twice at once"
            running.add(key)
            saw = version[key]
            for _ in range(2):
                await asyncio.sleep(0)
            seen[key] = saw
            running.discard(key)

        async with workers(queue, work, count) as failures:
            for key, pause in marks:
                version[key] += 1
                queue.add(key)
                for _ in range(pause):
                    await asyncio.sleep(0)
            for _ in range(5 * len(marks) + 20):
                await asyncio.sleep(0)
        assert not failures.seen
        assert seen == version
        assert len(queue) == 0

    asyncio.run(story())


async def test_a_failing_key_waits_longer_each_time_and_a_success_forgives() -> None:
    queue: WorkQueue[str] = WorkQueue(base_seconds=1.0, longest_seconds=60.0)
    delays: list[float] = []
    queue.add_after = lambda key, seconds: delays.append(seconds)  # type: ignore[method-assign]
    fails = True

    async def work(key: str) -> None:
        if fails:
            raise RuntimeError("no")

    async with workers(queue, work, 1) as failures:
        for _ in range(10):
            queue.add("a")
            await settle()
        assert len(failures.seen) == 10
        expected = [min(2.0**n, 60.0) for n in range(10)]
        assert all(0.8 * e <= d <= 1.2 * e for d, e in zip(delays, expected, strict=True))
        fails = False
        queue.add("a")
        await settle()
        fails = True
        queue.add("a")
        await settle()
    assert delays[-1] <= 1.2


async def test_a_key_that_failed_for_days_takes_no_worker_down() -> None:
    queue: WorkQueue[str] = WorkQueue(base_seconds=1.0, longest_seconds=60.0)
    delays: list[float] = []
    queue.add_after = lambda key, seconds: delays.append(seconds)  # type: ignore[method-assign]

    async def work(key: str) -> None:
        raise RuntimeError("no")

    async with workers(queue, work, 1):
        for _ in range(1100):
            queue.add("a")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await settle()
    assert len(delays) == 1100
    assert delays[-1] <= 72.0


async def test_one_key_that_fails_keeps_no_other_waiting() -> None:
    queue: WorkQueue[str] = WorkQueue(base_seconds=60.0)
    done: list[str] = []

    async def work(key: str) -> None:
        if key == "bad":
            raise RuntimeError("no")
        done.append(key)

    async with workers(queue, work, 1) as failures:
        for key in ("bad", "good"):
            queue.add(key)
        await settle()
        assert [key for key, _ in failures.seen] == ["bad"]
    assert done == ["good"]


class TestDelays:
    async def test_of_several_the_shortest_counts(self) -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 3600)
        queue.add_after("a", 0.001)
        queue.add_after("a", 1800)
        await asyncio.sleep(0.05)
        assert len(queue) == 1

    async def test_a_key_whose_time_comes_while_it_is_worked_on_is_worked_on_again(self) -> None:
        queue: WorkQueue[str] = WorkQueue()
        runs: list[int] = []

        async def work(key: str) -> None:
            runs.append(1)
            if len(runs) == 1:
                queue.add_after(key, 0.001)
                await asyncio.sleep(0.05)

        queue.add("a")
        async with workers(queue, work):
            await asyncio.sleep(0.2)
        assert len(runs) == 2

    async def test_a_delay_can_be_asked_for_again_once_it_fired(self) -> None:
        queue: WorkQueue[str] = WorkQueue()
        done: list[str] = []

        async def work(key: str) -> None:
            done.append(key)

        async with workers(queue, work):
            for _ in range(2):
                queue.add_after("a", 0.001)
                await asyncio.sleep(0.05)
        assert done == ["a", "a"]


async def test_a_worker_that_is_cancelled_leaves_no_key_behind() -> None:
    queue: WorkQueue[str] = WorkQueue()
    begun: list[str] = []

    async def forever(key: str) -> None:
        begun.append(key)
        await asyncio.Event().wait()

    async def finish(key: str) -> None:
        begun.append(f"{key} again")

    queue.add("a")
    async with workers(queue, forever, 1):
        await settle()
        queue.add("a")
    async with workers(queue, finish, 1):
        await settle()
    assert begun == ["a", "a again"]
