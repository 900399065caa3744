"""What a replica does when its parts break, and when it is asked to end."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from nemotron_api.build import MANIFEST, ServingConfig
from tests.integration.client import end_of, generate, joined, stream
from tests.integration.serving import Serving, StartServing, descendants, launch

pytestmark = pytest.mark.integration

LONG = {"text_input": "Everyone is permitted", "max_tokens": 4000, "ignore_eos": True}
SHORT = {"text_input": "Everyone is permitted", "max_tokens": 60, "ignore_eos": True}

MOUNT = Path("/mnt")
"""Where a pod of these tests finds the store."""


def as_pod(store: Path) -> tuple[str, ...]:
    """A command that runs another as a pod does: nothing writable but /tmp and shared memory, the store read-only, a
    user without a name, process 1.

    The one capability only reads: it stands for file permissions that an image has and this machine may not.
    """
    mounts = f"mount --bind {store} {MOUNT} && mount -o remount,bind,ro {MOUNT} && mount --bind /tmp /tmp"
    user = "--reuid=65532 --regid=65532 --clear-groups --no-new-privs"
    reads = "--inh-caps=-all,+dac_read_search --ambient-caps=+dac_read_search"
    script = f'{mounts} && mount -o remount,bind,ro / && exec setpriv {user} {reads} "$@"'
    return ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c", script, "sh")


@pytest.mark.parametrize("victim", ["stub", "server"])
async def test_a_killed_process_fails_its_streams_and_is_replaced(start_serving: StartServing, victim: str) -> None:
    server = start_serving()
    server.wait_until_ready()
    alone = await generate(server.grpc, **SHORT)
    streams = [stream(server.grpc, **LONG) for _ in range(4)]
    for one in streams:
        await anext(one)

    os.kill(server.stub() if victim == "stub" else server.server(), signal.SIGKILL)
    ends = await asyncio.wait_for(asyncio.gather(*map(end_of, streams)), timeout=5)

    assert ends == ["UNAVAILABLE"] * 4
    server.wait(lambda: server.log.read_text().count("STARTING → SERVING") == 2, "serving again")
    assert joined(await generate(server.grpc, **SHORT)) == joined(alone)


async def test_a_frozen_model_is_replaced(start_serving: StartServing) -> None:
    server = start_serving()
    server.wait_until_ready()
    one = stream(server.grpc, **LONG)
    await anext(one)

    os.kill(server.stub(), signal.SIGSTOP)

    assert await end_of(one) == "UNAVAILABLE"
    assert "no sign of life" in server.log.read_text()
    server.wait(lambda: server.log.read_text().count("STARTING → SERVING") == 2, "serving again")
    assert (await generate(server.grpc, **SHORT))[-1].completion_tokens == 60


def test_a_server_that_hangs_as_it_starts_again_is_replaced(start_serving: StartServing) -> None:
    server = start_serving(start_seconds=1)
    server.wait_until_ready()
    first = server.server()

    os.kill(first, signal.SIGKILL)
    server.wait(lambda: second_server(server, first) is not None, "started again")
    os.kill(second_server(server, first) or 0, signal.SIGSTOP)

    server.wait(lambda: "started again, gave no token within" in server.log.read_text(), "the hang is seen")
    server.wait(lambda: server.log.read_text().count("STARTING → SERVING") == 2, "serving again")


def second_server(server: Serving, first: int) -> int | None:
    """Process id of a tritonserver other than the first."""
    found = [pid for pid, name in descendants(server.launcher()) if name == "tritonserver"]
    return next((pid for pid in found if pid != first), None)


def test_it_gives_up_after_three_restarts_and_says_why(start_serving: StartServing) -> None:
    server = start_serving()

    for _ in range(4):
        server.wait_until_ready()
        os.kill(server.server(), signal.SIGKILL)
        server.wait(lambda: not server.is_ready(), "not ready")

    assert server.process.wait(60) == 1
    assert server.failure().message == "tritonserver ended with code -9, after 3 restarts"


async def test_termination_under_load_cuts_nothing(start_serving: StartServing) -> None:
    server = start_serving(drain_seconds=30, connection_age_seconds=1)
    server.wait_until_ready()
    alone = await generate(server.grpc, **SHORT)
    clients = [asyncio.create_task(until_refused(server)) for _ in range(6)]
    await asyncio.sleep(1)

    server.terminate()
    server.wait(lambda: not server.is_ready(), "not ready", seconds=1)
    admitted = await generate(server.grpc, **SHORT)
    last = stream(server.grpc, **LONG)
    first = await anext(last)
    rest = [response async for response in last]

    assert joined(admitted) == joined(alone)
    assert len(joined([first, *rest])) == 4000
    ends = [await client for client in clients]
    assert all(set(answers) == {"length"} for *answers, _ in ends)
    assert {last for *_, last in ends} <= {"ShuttingDown", "UNAVAILABLE"}
    assert server.process.wait(60) == 0


async def test_a_stream_that_outlives_the_deadline_ends_with_an_error(start_serving: StartServing) -> None:
    server = start_serving(drain_seconds=1)
    server.wait_until_ready()
    one = stream(server.grpc, **LONG)
    await anext(one)
    os.kill(server.stub(), signal.SIGSTOP)

    server.terminate()

    assert await end_of(one) == "UNAVAILABLE"
    assert server.process.wait(60) == 0


async def test_it_runs_as_a_pod_runs_it(start_serving: StartServing, store: Path) -> None:
    server = start_serving(store=MOUNT, wrapper=as_pod(store))
    server.wait_until_ready()

    os.kill(server.stub(), signal.SIGKILL)
    server.wait(lambda: not server.is_ready(), "not ready")
    server.wait_until_ready()

    assert (await generate(server.grpc, **SHORT))[-1].completion_tokens == 60
    status = Path(f"/proc/{server.server()}/status").read_text()
    assert "Uid:\t65532\t65532\t65532\t65532" in status
    states = [state_of(pid) for pid, _ in descendants(server.process.pid)]
    assert "Z" not in states
    assert server.stop() == 0


def test_nothing_is_left_behind(start_serving: StartServing) -> None:
    server = start_serving()
    server.wait_until_ready()
    pid, stub = server.launcher(), server.stub()

    assert server.stop() == 0

    assert not Path(f"/proc/{stub}").exists()
    assert not list(Path("/dev/shm").glob(f"nemotron_{pid}_*"))


def test_liveness_and_readiness_are_answered_in_words(serving: Serving) -> None:
    assert serving.get("health", "/livez") == (200, "ok\n")
    assert serving.get("health", "/readyz") == (200, "ok\n")
    assert serving.get("health", "/token") == (200, "ok\n")
    assert serving.get("health", "/else") == (404, "no such path: one of /livez, /readyz, /token\n")


def test_before_it_is_ready_it_says_so(start_serving: StartServing) -> None:
    server = start_serving()

    server.wait(server.is_live, "live")

    status, sentence = server.get("health", "/readyz")
    assert (status, sentence) == (503, "the model is loading (the server does not listen yet)\n")


def test_another_manifest_than_promised_is_refused(start_serving: StartServing) -> None:
    server = start_serving(manifest_sha256="0" * 64)

    assert server.process.wait(60) == 1
    assert server.failure().reason == "EngineMismatch"
    assert "promised was 0000" in server.failure().message


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        pytest.param("COMPLETE", None, "not a sealed engine", id="not-sealed"),
        pytest.param("weights.safetensors", b"short", "weights.safetensors has 5 bytes, sealed were", id="truncated"),
        pytest.param("tokenizer.json", None, "tokenizer.json is in the manifest but not there", id="missing"),
        pytest.param("config.json", "flip", "config.json is not what was sealed", id="changed"),
        pytest.param("weights.safetensors", "flip", "weights.safetensors is not what was sealed", id="weights-changed"),
    ],
)
def test_a_damaged_engine_is_refused(
    engine_dir: Path, config: ServingConfig, tmp_path: Path, name: str, content: bytes | str | None, sentence: str
) -> None:
    damaged = tmp_path / "store" / config.engine
    shutil.copytree(engine_dir, damaged)
    path = damaged / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else path.read_bytes().swapcase())

    server = launch(tmp_path / "store", config, tmp_path / "serving")

    assert server.process.wait(60) == 1
    assert server.failure().reason == "EngineMismatch"
    assert sentence in server.failure().message


def test_a_model_that_does_not_load_says_why(engine_dir: Path, config: ServingConfig, tmp_path: Path) -> None:
    broken = tmp_path / "store" / config.engine
    shutil.copytree(engine_dir, broken)
    digest = with_another_file(broken, "runtime.json", b"{}")

    server = launch(tmp_path / "store", config.model_copy(update={"manifest_sha256": digest}), tmp_path / "serving")

    assert server.process.wait(60) == 1
    assert server.failure().reason == "EngineMismatch"
    assert "holds no engine this runtime can open" in server.failure().message


async def until_refused(server: Serving) -> list[str]:
    """Ends of requests sent one after the other over connections that clients would keep, until one is refused."""
    ends: list[str] = []
    while set(ends) <= {"length"}:
        ends.append(await end_of(stream(server.grpc, **SHORT)))
    return ends


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def with_another_file(engine: Path, name: str, content: bytes) -> str:
    """Put `content` into the sealed `engine`; the digest of the manifest that says so."""
    (engine / name).write_bytes(content)
    manifest = json.loads((engine / MANIFEST).read_text())
    entry = next(file for file in manifest["files"] if file["path"] == name)
    entry |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (engine / MANIFEST).write_text(json.dumps(manifest))
    return hashlib.sha256((engine / MANIFEST).read_bytes()).hexdigest()
