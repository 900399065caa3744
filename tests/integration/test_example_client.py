"""The example client, run as a user runs it, against a real Triton server."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tritonclient.grpc.aio import InferenceServerClient

from examples import client
from tests.integration.client import generate, text_of
from tests.integration.serving import LIMITS, Serving

pytestmark = pytest.mark.integration

SCRIPT = Path(__file__).parents[2] / "examples" / "client.py"
PROMPT = "This program is free software"


def command(serving: Serving, prompt: str, *options: str) -> list[str]:
    return [sys.executable, str(SCRIPT), "--url", f"dns:///{serving.grpc}", "--model", "tiny", *options, prompt]


def run(serving: Serving, prompt: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(serving, prompt, *options), capture_output=True, text=True, timeout=120)


async def test_it_prints_what_the_server_streams(serving: Serving) -> None:
    expected = text_of(await generate(serving.grpc, text_input=PROMPT, max_tokens=40, ignore_eos=True))

    done = await asyncio.to_thread(run, serving, PROMPT, "--max-tokens", "40", "--ignore-eos")

    assert done.stdout == expected + "\n"
    assert done.stderr == f"[{len(PROMPT)} + 40 tokens, length]\n"
    assert done.returncode == 0


def test_a_seed_makes_a_sampled_answer_repeatable(serving: Serving) -> None:
    sampled = ("--max-tokens", "40", "--ignore-eos", "--temperature", "1.5", "--top-p", "0.9", "--top-k", "50")

    one, again, other = (run(serving, PROMPT, *sampled, "--seed", seed).stdout for seed in ("1", "1", "2"))

    assert one == again
    assert one != other


def test_a_question_is_asked_in_the_models_own_form(serving: Serving) -> None:
    done = run(serving, "What is free software?", "--chat")

    assert done.stdout == "When we speak of free software, we are referring to freedom, not price.\n"
    assert done.stderr.endswith("tokens, stop]\n")


def test_an_impossible_request_ends_with_the_servers_words(serving: Serving) -> None:
    length = LIMITS.max_sequence_tokens + 1

    done = run(serving, "x" * length, "--max-tokens", "8")

    assert done.returncode == 1
    assert "InvalidRequest" in done.stderr
    assert str(length) in done.stderr
    assert str(LIMITS.max_sequence_tokens) in done.stderr


def test_control_c_frees_the_servers_slot(serving: Serving) -> None:
    before = serving.failures("Cancelled")
    process = subprocess.Popen(
        # A shell that runs its jobs in the background lets them ignore the interrupt, and children inherit that.
        ["env", "--default-signal=INT", *command(serving, PROMPT, "--max-tokens", "3900", "--ignore-eos")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.read(1)

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)

    assert (process.returncode, errors.decode()) == (130, "\ncancelled\n")
    serving.wait(lambda: serving.failures("Cancelled") == before + 1, "the model saw the cancellation")
    serving.wait(lambda: serving.metrics()["nemotron_state_slots_used"] == 0, "the slot is free")


async def test_many_requests_share_one_connection(serving: Serving) -> None:
    settings = {"max_tokens": 24, "ignore_eos": True}

    async def text(connection: InferenceServerClient, number: int) -> str:
        chunks = client.stream(connection, "tiny", {"text_input": f"Number {number}", **settings})
        return "".join([chunk.text async for chunk in chunks])

    async with client.connect(f"dns:///{serving.grpc}") as connection:
        alone = [await text(connection, number) for number in range(6)]
        together = await asyncio.gather(*(text(connection, number) for number in range(6)))

    assert together == alone
