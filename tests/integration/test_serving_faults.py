"""What clients see when a replica under load breaks or leaves."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2

from tests.builders.paced_engine import EXPLODE, MODEL, Pace, token_at
from tests.integration.load import Answer, Client, a_request
from tests.integration.serving import Serving, a_paced_engine, launch

pytestmark = pytest.mark.integration

StartPaced = Callable[..., Serving]
LONG = a_request(input_ids=[20] * 8, max_tokens=90_000)
SHORT = a_request(input_ids=[20] * 8, max_tokens=25)
PACE = Pace(0.02, slots=64)


async def streaming(server: Serving, client: Client, count: int) -> list[asyncio.Task[Answer]]:
    """`count` long streams that have begun."""
    tasks = [asyncio.create_task(client.ask(LONG)) for _ in range(count)]
    metric = "nemotron_generated_tokens_total"
    before = server.metrics().get(metric, 0)
    await asyncio.to_thread(server.wait, lambda: server.metrics()[metric] > before + 10 * count, "all streams run")
    return tasks


def words(answers: Sequence[Answer]) -> Counter[str]:
    """How often each error's first words came."""
    return Counter(answer.error.partition(":")[0] for answer in answers)


async def test_an_exception_in_the_engine_reaches_every_client_and_ends_in_a_restart(start_paced: StartPaced) -> None:
    server = start_paced(PACE)
    async with Client(server.grpc) as client:
        running = await streaming(server, client, 16)

        exploded = await client.ask(a_request(input_ids=[EXPLODE], max_tokens=4))
        others = await asyncio.wait_for(asyncio.gather(*running), 5)
        after = await client.ask(SHORT)

        assert words([exploded, *others]) == {"RequestFailed": 17}
        assert {answer.error for answer in others} == {"RequestFailed: the engine has stopped"}
        assert after.error.startswith("RequestFailed: the engine has stopped") or after.broke_with == "UNAVAILABLE"
        await asyncio.to_thread(
            server.wait, lambda: server.log.read_text().count("STARTING → SERVING") == 2, "serving again"
        )
    assert "the engine's step loop has failed" in server.log.read_text()
    async with Client(server.grpc) as client:
        assert (await client.ask(SHORT)).tokens == [token_at(position) for position in range(25)]


async def test_under_64_streams_a_killed_model_fails_them_all_at_once(start_paced: StartPaced) -> None:
    server = start_paced(PACE)
    async with Client(server.grpc) as client:
        running = await streaming(server, client, 64)

        os.kill(server.stub(), signal.SIGKILL)
        answers = await asyncio.wait_for(asyncio.gather(*running), 5)

    assert words(answers) == {"UNAVAILABLE": 64}
    assert all(answer.tokens == [token_at(position) for position in range(len(answer.tokens))] for answer in answers)


async def test_a_replica_that_leaves_refuses_nobody_before_its_time(start_paced: StartPaced) -> None:
    server = start_paced(PACE, drain_seconds=20, connection_age_seconds=1)
    request = a_request(input_ids=[20] * 8, max_tokens=150)
    refused_at: list[float] = []
    loop = asyncio.get_running_loop()

    async def until_refused(client: Client) -> list[Answer]:
        """Answers to one request after the other, over channels that were there before."""
        answers = [await client.ask(request)]
        while not answers[-1].error:
            answers.append(await client.ask(request))
        refused_at.append(loop.time())
        return answers

    async with Client(server.grpc, channels=16) as client:
        clients = [asyncio.create_task(until_refused(client)) for _ in range(64)]
        await asyncio.sleep(1.5)
        server.terminate()
        terminated_at = loop.time()
        server.wait(lambda: not server.is_ready(), "not ready", seconds=2)
        answers = [answer for ends in await asyncio.gather(*clients) for answer in ends]

    assert await asyncio.to_thread(server.process.wait, 60) == 0
    delivered = [answer for answer in answers if not answer.error]
    assert len(delivered) >= 2 * 64
    assert {tuple(answer.tokens) for answer in delivered} == {tuple(token_at(position) for position in range(150))}
    # The connection's age, 1 s, and the notice of 5 s.
    assert min(refused_at) - terminated_at >= 6
    assert set(words(answers)) <= {"", "ShuttingDown", "UNAVAILABLE"}


SMALL_SHARED_MEMORY = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64m none /dev/shm && exec "$@"', "sh")


@pytest.mark.parametrize("megabytes", [40, 200])
async def test_a_request_larger_than_shared_memory_harms_nobody(small_memory: Serving, megabytes: int) -> None:
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="input_ids", datatype="INT32", shape=[megabytes * 2**20 // 4])
    request.raw_input_contents.append(bytes(megabytes * 2**20))

    async with Client(small_memory.grpc) as client:
        running = asyncio.create_task(client.ask(a_request(input_ids=[20], max_tokens=100)))
        large = await client.ask(bytes(request.SerializeToString()))
        beside = await running

    assert large.error.startswith("InvalidRequest: input_ids holds" if megabytes < 64 else "Failed to increase")
    assert beside.tokens == [token_at(position) for position in range(100)]


@pytest.fixture(scope="module")
def small_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server whose shared memory is as bounded as a pod's."""
    root = tmp_path_factory.mktemp("small")
    server = launch(root, a_paced_engine(root, PACE), root / "serving", wrapper=SMALL_SHARED_MEMORY)
    server.wrapped = False  # the wrapper became the launcher
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


def on_a_full_disk(directory: Path) -> tuple[str, ...]:
    """A command that runs another with nothing left to write temporary files to."""
    script = f'mount -t tmpfs -o size=4k,nr_inodes=2 none {directory} && TMPDIR={directory} exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh")


def test_a_full_disk_is_named(start_serving: Callable[..., Serving], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()

    server = start_serving(wrapper=on_a_full_disk(tmp_path / "full"))

    assert server.process.wait(60) == 1
    assert server.failure().reason == "VolumeFull"
    assert str(tmp_path / "full") in server.failure().message
