"""Tokens that come through a real Triton server are the engine's own."""

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tritonclient.grpc.aio import InferenceServerClient

from nemotron_runtime import HybridEngine, SamplingParams, TokenEvent, open_engine
from tests.integration.client import RequestFailed, generate, joined, stream, text_of
from tests.integration.serving import LIMITS, Serving

pytestmark = pytest.mark.integration

PROMPT = "This program is free software"


@pytest.fixture(scope="module")
def runtime(engine_dir: Path) -> Iterator[HybridEngine]:
    """The same engine in this process."""
    opened = open_engine(engine_dir, threads=1)
    yield opened
    opened.close()


async def tokens_of(runtime: HybridEngine, prompt: list[int], sampling: SamplingParams) -> tuple[int, ...]:
    loop, events = asyncio.get_running_loop(), asyncio.Queue[TokenEvent]()

    def sink(event: TokenEvent) -> None:
        loop.call_soon_threadsafe(events.put_nowait, event)

    runtime.submit(prompt, sampling, sink)
    tokens: list[int] = []
    while True:
        event = await events.get()
        assert event.token is not None
        tokens.append(event.token)
        if event.finish_reason:
            return tuple(tokens)


@pytest.mark.parametrize(
    "sampling",
    [
        pytest.param({}, id="greedy"),
        pytest.param({"temperature": 0.8, "seed": 7}, id="sampled"),
        pytest.param({"temperature": 1.0, "top_k": 5, "top_p": 0.5, "seed": 2**63 + 1}, id="top-k-top-p-large-seed"),
    ],
)
async def test_a_stream_is_what_the_runtime_generates(
    serving: Serving, runtime: HybridEngine, sampling: dict[str, float]
) -> None:
    prompt = [16 + byte for byte in PROMPT.encode()]
    given = {"max_tokens": 48, "ignore_eos": True, **sampling}

    streamed = await generate(serving.grpc, input_ids=prompt, **given)

    assert joined(streamed) == await tokens_of(runtime, prompt, SamplingParams(**given))  # type: ignore[arg-type]
    assert [response.finish_reason for response in streamed] == [*[""] * (len(streamed) - 1), "length"]
    assert streamed[-1].completion_tokens == 48
    assert streamed[-1].prompt_tokens == len(prompt)


async def test_text_in_and_text_out_are_the_tokenizers(serving: Serving, engine_dir: Path) -> None:
    tokenizer = Tokenizer.from_file(str(engine_dir / "tokenizer.json"))
    by_ids = await generate(serving.grpc, input_ids=tokenizer.encode(PROMPT).ids, max_tokens=32)

    by_text = await generate(serving.grpc, text_input=PROMPT, max_tokens=32)

    assert joined(by_text) == joined(by_ids)
    assert text_of(by_text) == tokenizer.decode(list(joined(by_ids)))


async def test_an_answer_in_one_piece_has_exactly_one_response(serving: Serving) -> None:
    streamed = await generate(serving.grpc, text_input=PROMPT, max_tokens=32, ignore_eos=True)

    whole = await generate(serving.grpc, text_input=PROMPT, max_tokens=32, ignore_eos=True, stream=False)

    assert len(streamed) > 1
    assert [(one.text, one.token_ids, one.finish_reason) for one in whole] == [
        (text_of(streamed), joined(streamed), "length")
    ]


def test_http_generate_answers_with_the_same_text(serving: Serving) -> None:
    status, body = serving.post({"text_input": PROMPT, "max_tokens": 12})
    again, echoed = serving.post({"text_input": PROMPT, "max_tokens": 12, "exclude_input_in_output": False})

    assert (status, again) == (200, 200)
    assert json.loads(body)["completion_tokens"] == 12
    assert json.loads(echoed)["text_output"] == PROMPT + json.loads(body)["text_output"]


async def test_many_streams_advance_in_the_same_step(serving: Serving) -> None:
    before = serving.metrics()

    answers = await asyncio.gather(
        *(generate(serving.grpc, text_input=f"Number {n}", max_tokens=1000, ignore_eos=True) for n in range(8))
    )

    generated = sum(len(joined(answer)) for answer in answers)
    total = before["nemotron_generated_tokens_total"] + generated
    serving.wait(lambda: serving.metrics()["nemotron_generated_tokens_total"] >= total, "metrics flushed")
    steps = serving.metrics()["nemotron_steps_total"] - before["nemotron_steps_total"]
    assert generated == 8000
    assert steps < generated / 3


async def test_requests_that_share_one_connection_do_not_mix(serving: Serving) -> None:
    alone = [await generate(serving.grpc, text_input=f"Number {n}", max_tokens=24) for n in range(4)]

    async with InferenceServerClient(serving.grpc) as client:
        together = await asyncio.gather(
            *(generate(serving.grpc, client, text_input=f"Number {n}", max_tokens=24) for n in range(4))
        )

    assert [joined(answer) for answer in together] == [joined(answer) for answer in alone]


async def test_a_stop_word_ends_the_answer_before_it(serving: Serving) -> None:
    text = text_of(await generate(serving.grpc, text_input=PROMPT, max_tokens=64, ignore_eos=True))
    word = text[20:24]

    stopped = await generate(
        serving.grpc, text_input=PROMPT, max_tokens=64, ignore_eos=True, stop_words=["never said", word]
    )

    assert text_of(stopped) == text[: text.index(word)]
    assert stopped[-1].finish_reason == "stop"
    serving.wait(lambda: serving.metrics()["nemotron_state_slots_used"] == 0, "the slot is free again")


async def test_a_cancelled_stream_frees_its_slot(serving: Serving) -> None:
    before = serving.failures("Cancelled")
    long = stream(serving.grpc, text_input=PROMPT, max_tokens=LIMITS.max_sequence_tokens - 100, ignore_eos=True)
    await anext(long)

    await long.aclose()

    serving.wait(lambda: serving.failures("Cancelled") == before + 1, "the model saw the cancellation")
    serving.wait(lambda: serving.metrics()["nemotron_state_slots_used"] == 0, "the slot is free")
    serving.wait(lambda: serving.metrics()["nemotron_kv_pages_used"] == 0, "the pages are free")
    assert serving.metrics()["nemotron_active_requests"] == 0


async def test_a_request_ends_when_its_own_deadline_passes(serving: Serving) -> None:
    with pytest.raises(RequestFailed, match=r"DeadlineExceeded: .* 0\.3 s has passed"):
        await generate(serving.grpc, text_input=PROMPT, max_tokens=4000, ignore_eos=True, timeout=300_000)

    serving.wait(lambda: serving.metrics()["nemotron_state_slots_used"] == 0, "the slot is free")


def test_an_http_client_that_hangs_up_frees_its_slot(serving: Serving) -> None:
    before = serving.failures("Cancelled")
    body = json.dumps({"text_input": PROMPT, "max_tokens": 4000, "ignore_eos": True, "stream": True}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(serving.url("http", "/v2/models/tiny/generate_stream"), body, headers)

    with urllib.request.urlopen(request, timeout=60) as reply:
        reply.readline()

    serving.wait(lambda: serving.failures("Cancelled") == before + 1, "the model saw the cancellation")
    serving.wait(lambda: serving.metrics()["nemotron_state_slots_used"] == 0, "the slot is free")
