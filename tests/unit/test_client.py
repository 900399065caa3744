"""The example client tries again where that is safe, spreads its requests, and never leaves a stream behind."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import client
from nemotron_api.tensors import INPUTS
from tests.builders.scripted_triton import Act, ScriptedServer, ends, fails, fails_in_band, hangs, raw, says, serving

pytestmark = pytest.mark.unit

QUICK = client.Patience(whole=60, between_chunks=30, retries=3, first_pause=0.001)


async def answer(port: int, patience: client.Patience = QUICK, **settings: Any) -> str:
    async with client.connect(f"127.0.0.1:{port}") as connection:
        chunks = client.stream(connection, "tiny", {"text_input": "Hello", **settings}, patience)
        return "".join([chunk.text async for chunk in chunks])


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(fails(grpc.StatusCode.UNAVAILABLE), id="a-replica-goes-away"),
        pytest.param(fails_in_band("Overloaded: 256 requests wait"), id="a-full-queue"),
        pytest.param(fails_in_band("ShuttingDown: this replica drains"), id="a-draining-replica"),
        pytest.param(
            fails_in_band("Request for unknown model: 'tiny' has no available versions"), id="a-stopping-triton"
        ),
        pytest.param(fails_in_band("Stub process 'tiny_0_0' is not healthy."), id="a-dead-stub"),
    ],
)
async def test_a_request_nobody_began_to_answer_is_tried_again(trouble: Act) -> None:
    server = ScriptedServer([trouble, trouble, says("good", " day")])
    async with serving(server) as port:
        assert await answer(port) == "good day"
    assert len(server.requests) == 3


def resumed_ids(request: Any) -> list[int]:
    """The resume_ids that a scripted server was sent."""
    names = [tensor.name for tensor in request.inputs]
    if "resume_ids" not in names:
        return []
    return list(np.frombuffer(request.raw_input_contents[names.index("resume_ids")], dtype=np.int32))


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(fails(grpc.StatusCode.UNAVAILABLE), id="connection-lost"),
        pytest.param(fails_in_band("ShuttingDown: this replica drains"), id="in-band"),
        pytest.param(ends, id="the-stream-just-ends"),
    ],
)
async def test_an_answer_that_broke_off_goes_on_after_what_arrived(trouble: Act) -> None:
    server = ScriptedServer([says("once ", "upon ", then=trouble), says("a ", then=trouble), says("time")])
    async with serving(server) as port:
        assert await answer(port) == "once upon a time"
    assert [resumed_ids(request) for request in server.requests] == [[], [1, 2], [1, 2, 1]]


async def test_an_answer_that_keeps_breaking_off_is_given_up() -> None:
    server = ScriptedServer([says("once", then=fails(grpc.StatusCode.UNAVAILABLE))])
    async with serving(server) as port:
        with pytest.raises(client.GenerationError, match="UNAVAILABLE: scripted"):
            await answer(port)
    assert len(server.requests) == 1 + QUICK.retries


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(fails(grpc.StatusCode.INVALID_ARGUMENT), id="status"),
        pytest.param(fails_in_band("InvalidRequest: the prompt has 9000 tokens; 1024 are possible"), id="in-band"),
    ],
)
async def test_a_wrong_request_is_not_sent_twice(trouble: Act) -> None:
    server = ScriptedServer([trouble])
    async with serving(server) as port:
        with pytest.raises(client.GenerationError) as raised:
            await answer(port)
    assert not raised.value.try_elsewhere
    assert len(server.requests) == 1


async def test_it_gives_up_after_the_retries() -> None:
    server = ScriptedServer([fails(grpc.StatusCode.UNAVAILABLE)])
    async with serving(server) as port:
        with pytest.raises(client.GenerationError, match="UNAVAILABLE"):
            await answer(port)
    assert len(server.requests) == 1 + QUICK.retries


async def test_a_refused_connection_is_tried_until_somebody_listens() -> None:
    async with serving(ScriptedServer([says("gone")])) as port:
        pass
    waiting = asyncio.create_task(answer(port, client.Patience(retries=1000, first_pause=0.0)))
    await asyncio.sleep(0)

    async with serving(ScriptedServer([says("here")]), port):
        assert await waiting == "here"


async def test_a_replica_that_falls_silent_is_left() -> None:
    server = ScriptedServer([hangs, says("awake")])
    async with serving(server) as port:
        assert await answer(port, client.Patience(between_chunks=0.2, first_pause=0.001)) == "awake"
        await asyncio.wait_for(server.cancelled.wait(), 30)


async def test_the_whole_time_covers_all_tries() -> None:
    server = ScriptedServer([hangs])
    async with serving(server) as port:
        with pytest.raises(client.GenerationError, match="DEADLINE_EXCEEDED"):
            await answer(port, client.Patience(whole=0.3))


async def leave_the_loop(chunks: AsyncGenerator[client.Chunk, None]) -> None:
    async with aclosing(chunks):
        async for _ in chunks:
            break


async def cancel_the_task(chunks: AsyncGenerator[client.Chunk, None]) -> None:
    first = asyncio.Event()

    async def read() -> None:
        async for _ in chunks:
            first.set()

    task = asyncio.create_task(read())
    await first.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("give_up", [leave_the_loop, cancel_the_task])
async def test_who_stops_reading_cancels_the_stream(
    give_up: Callable[[AsyncGenerator[client.Chunk, None]], Awaitable[None]],
) -> None:
    server = ScriptedServer([says("once", then=hangs)])
    async with serving(server) as port, client.connect(f"127.0.0.1:{port}") as connection:
        await give_up(client.stream(connection, "tiny", {"text_input": "Hello"}))
        await asyncio.wait_for(server.cancelled.wait(), 30)


async def test_requests_go_round_all_replicas() -> None:
    one, two = ScriptedServer([says("a")]), ScriptedServer([says("b")])
    async with (
        serving(one) as first,
        serving(two) as second,
        client.connect(f"ipv4:127.0.0.1:{first},127.0.0.1:{second}") as connection,
    ):
        while not (one.requests and two.requests):  # a channel begins with the replica that connects first
            [chunk async for chunk in client.stream(connection, "tiny", {"text_input": "x"})]
        before = len(one.requests), len(two.requests)
        for _ in range(10):
            [chunk async for chunk in client.stream(connection, "tiny", {"text_input": "x"})]
    assert (len(one.requests) - before[0], len(two.requests) - before[1]) == (5, 5)


async def test_no_request_carries_the_metadata_that_crashes_triton() -> None:
    server = ScriptedServer([says("fine")])
    async with serving(server) as port:
        await answer(port)
    assert "triton_grpc_error" not in server.metadata[0]


def test_the_clients_tensors_are_the_apis() -> None:
    known = {tensor.name: tensor.datatype for tensor in INPUTS}
    assert {name: datatype for name, (datatype, _) in client.TENSORS.items()}.items() <= known.items()


@given(text=st.text(), words=st.lists(st.text(), min_size=1), seed=st.integers(0, 2**64 - 1))
async def test_settings_arrive_as_they_were_given(text: str, words: list[str], seed: int) -> None:
    sent = {"text_input": text, "stop_words": words, "seed": seed, "ignore_eos": True, "temperature": 0.5}
    for name, value in sent.items():
        made = client.tensor(name, value)
        assert made.datatype() == client.TENSORS[name][0]
        assert made.shape() == [len(value) if isinstance(value, list) else 1]
    assert client.tensor("stop_words", words)._get_content() == raw("BYTES", words)
    assert client.tensor("text_input", text)._get_content() == raw("BYTES", [text])
    assert int.from_bytes(client.tensor("seed", seed)._get_content(), "little") == seed
