"""Bad requests get a sentence that says what to change, and harm nobody else."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from tests.integration.client import MODEL, RequestFailed, generate, joined, stream, tensor
from tests.integration.serving import LIMITS, Serving, StartServing

pytestmark = pytest.mark.integration

LIMIT = LIMITS.max_sequence_tokens

# Inputs of a request that cannot be served, and what the client must read.
BAD = [
    pytest.param({"text_input": ""}, "the prompt is empty", id="empty-prompt"),
    pytest.param({"input_ids": []}, "the prompt is empty", id="empty-ids"),
    pytest.param({"max_tokens": 4}, "neither is there", id="no-prompt"),
    pytest.param({"text_input": "a", "input_ids": [20]}, "both are there", id="two-prompts"),
    pytest.param({"text_input": "a", "max_tokens": 0}, "max_tokens must be at least 1; it is 0", id="max-tokens-0"),
    pytest.param({"text_input": "a", "max_tokens": -7}, "at least 1; it is -7", id="max-tokens-negative"),
    pytest.param({"text_input": "a", "max_tokens": 2**31 - 1}, f"2147483647.*{LIMIT}", id="max-tokens-beyond-limit"),
    pytest.param({"input_ids": [20] * (LIMIT + 5)}, f"{LIMIT + 5}.*{LIMIT}", id="prompt-beyond-limit"),
    pytest.param({"text_input": "a" * (LIMIT + 5)}, f"{LIMIT + 5}.*{LIMIT}", id="text-beyond-limit"),
    pytest.param({"text_input": "a" * 10_000_000}, f"10000000 bytes.*{LIMIT}", id="text-of-10-megabytes"),
    pytest.param({"input_ids": [20, -1]}, "-1 at position 1 is outside the vocabulary", id="negative-id"),
    pytest.param({"input_ids": [2**30]}, "1073741824 at position 0 is outside", id="id-outside-the-vocabulary"),
    pytest.param({"text_input": "a", "temperature": -0.5}, "temperature must be .* it is -0.5", id="temperature"),
    pytest.param({"text_input": "a", "top_k": -1}, "top_k must be .* it is -1", id="top-k"),
    pytest.param({"text_input": "a", "top_p": 0.0}, "top_p must be .* it is 0.0", id="top-p-0"),
    pytest.param({"text_input": "a", "top_p": 1.5}, "top_p must be .* it is 1.5", id="top-p-beyond-1"),
    pytest.param({"text_input": "a", "stop_words": [""]}, "stop_words holds an empty text", id="empty-stop-word"),
]


@pytest.mark.parametrize(("inputs", "sentence"), BAD)
async def test_a_bad_request_is_refused_over_grpc(serving: Serving, inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RequestFailed, match=f"^InvalidRequest: .*{sentence}"):
        await generate(serving.grpc, **inputs)


@pytest.mark.parametrize(("inputs", "sentence"), BAD)
@pytest.mark.parametrize("path", ["generate", "generate_stream"])
def test_a_bad_request_is_refused_over_http(serving: Serving, inputs: dict[str, Any], sentence: str, path: str) -> None:
    status, body = serving.post(inputs, f"/v2/models/{MODEL}/{path}")

    assert status == 400
    with pytest.raises(RequestFailed, match=f"^InvalidRequest: .*{sentence}"):
        raise RequestFailed(json.loads(body.removeprefix("data: "))["error"])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["temperature", "top_p"])
async def test_what_is_no_number_is_refused(serving: Serving, name: str, value: float) -> None:
    with pytest.raises(RequestFailed, match=f"^InvalidRequest: {name} must be .* it is {value}"):
        await generate(serving.grpc, text_input="a", **{name: value})


async def test_text_that_is_not_utf8_is_refused(serving: Serving) -> None:
    with pytest.raises(RequestFailed, match="text_input is not valid UTF-8: byte 0xff at offset 2"):
        await generate(serving.grpc, text_input=b"ab\xff")

    with pytest.raises(RequestFailed, match="stop_words is not valid UTF-8: byte 0xc3 at offset 0"):
        await generate(serving.grpc, text_input="a", stop_words=[b"\xc3"])

    status, body = serving.post(b'{"text_input": "a\xff"}')
    assert status == 400
    assert "not valid UTF-8" in body


async def test_an_unknown_parameter_is_named(serving: Serving) -> None:
    with pytest.raises(RequestFailed, match="unknown request parameter 'temprature'"):
        await generate(serving.grpc, text_input="a", parameters={"temprature": 1})

    status, body = serving.post({"text_input": "a", "temprature": 1})
    assert status == 400
    assert "unknown request parameter 'temprature'" in json.loads(body)["error"]


async def test_an_unknown_tensor_is_named(serving: Serving) -> None:
    unknown = InferInput("lora_task_id", [1], "INT32")
    unknown.set_data_from_numpy(np.ones(1, np.int32))

    async def once() -> Any:
        yield {"model_name": MODEL, "inputs": [tensor("text_input", "a"), unknown]}

    async with InferenceServerClient(serving.grpc) as client:
        _, error = await anext(aiter(client.stream_infer(once())))

    assert "lora_task_id" in str(error)


def test_max_tokens_beyond_int32_is_refused_over_http(serving: Serving) -> None:
    # The server itself cuts the number to 32 bits before the model sees it: what is left is still beyond the limit.
    status, body = serving.post({"text_input": "a", "max_tokens": 99_999_999_999})

    assert status == 400
    assert f"at most {LIMIT} tokens" in json.loads(body)["error"]


async def test_unloading_the_model_is_not_for_clients(serving: Serving) -> None:
    async with InferenceServerClient(serving.grpc) as client:
        with pytest.raises(InferenceServerException):
            await client.unload_model(MODEL)

    assert serving.post(b"{}", f"/v2/repository/models/{MODEL}/unload")[0] == 403
    assert serving.post({"text_input": "a", "max_tokens": 1})[0] == 200


async def test_a_good_stream_is_not_disturbed_by_bad_ones(serving: Serving) -> None:
    alone = await generate(serving.grpc, text_input="Everyone", max_tokens=200, ignore_eos=True)
    good = asyncio.create_task(generate(serving.grpc, text_input="Everyone", max_tokens=200, ignore_eos=True))

    while not good.done():
        for inputs in ({"text_input": ""}, {"text_input": b"\xff"}, {"input_ids": [-1]}):
            with pytest.raises(RequestFailed):
                await generate(serving.grpc, **inputs)

    assert joined(await good) == joined(alone)
    serving.wait(lambda: serving.metrics()["nemotron_active_requests"] == 0, "nothing is left behind")
    assert serving.metrics()["nemotron_state_slots_used"] == 0
    assert serving.metrics()["nemotron_kv_pages_used"] == 0


async def test_a_full_queue_refuses_with_overloaded(start_serving: StartServing) -> None:
    server: Serving = start_serving(max_waiting=1)
    server.wait_until_ready()
    prompt = {"text_input": "a", "max_tokens": 4000, "ignore_eos": True}
    running = [stream(server.grpc, **prompt) for _ in range(LIMITS.max_batch)]
    for one in running:
        await anext(one)
    waiting = asyncio.create_task(anext(stream(server.grpc, **prompt)))
    await asyncio.to_thread(
        server.wait, lambda: server.metrics()["nemotron_waiting_requests"] == 1, "one request waits"
    )

    with pytest.raises(RequestFailed, match=r"^Overloaded: 1 requests wait"):
        await generate(server.grpc, **prompt)

    for one in running:
        await one.aclose()
    assert (await waiting).token_ids
