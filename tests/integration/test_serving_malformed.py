"""What is no request at all gets an answer, and the server lives on."""

import http.client
import json
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from tests.builders.paced_engine import token_at
from tests.integration.client import MODEL
from tests.integration.load import METHOD, Client, a_request
from tests.integration.serving import Serving

pytestmark = pytest.mark.integration

GENERATE = f"/v2/models/{MODEL}/generate"


def ask(
    serving: Serving, body: bytes, path: str = GENERATE, method: str = "POST", kind: str = "application/json"
) -> tuple[int, str]:
    connection = http.client.HTTPConnection(serving.host, serving.ports["http"], timeout=60)
    try:
        connection.request(method, path, body, {"Content-Type": kind})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


# The codes are the server's own: what it finds wrong with JSON it calls its own fault.
@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b'{"text_input": "a", "max_tokens": 1.5}', 500, id="float-for-int32"),
        pytest.param(b'{"text_input": "a", "max_tokens": "1"}', 500, id="text-for-int32"),
        pytest.param(b'{"text_input": "a", "max_tokens": true}', 500, id="bool-for-int32"),
        pytest.param(b'{"text_input": 7}', 500, id="number-for-text"),
        pytest.param(b'{"text_input": null}', 500, id="null"),
        pytest.param(b'{"text_input": "a"', 500, id="cut-json"),
        pytest.param(b"", 500, id="nothing"),
        pytest.param(b"[]", 500, id="array"),
        pytest.param(b'{"text_input": "\\ud800"}', 500, id="lone-surrogate"),
        pytest.param(b'{"text_input": ["a", "b"]}', 400, id="two-texts"),
        pytest.param(b'{"text_input": "a", "client": {"name": "x"}}', 400, id="object-parameter"),
        pytest.param(b'{"text_input": "a", "client": ["x"]}', 400, id="array-parameter"),
        pytest.param(b'{"text_input": "a\xff"}', 400, id="no-utf8"),
        pytest.param(b'{"text_input": "a", "request_priority": "high"}', 400, id="priority-in-words"),
        pytest.param(b'{"text_input": "a", "stream_interval": 0}', 400, id="interval-0"),
        pytest.param(b'{"text_input": "a", "resume_ids": [-1]}', 400, id="resume-no-token"),
    ],
)
def test_a_bad_body_is_answered_over_http(paced: Serving, body: bytes, status: int) -> None:
    found, answer = ask(paced, body)

    assert (found, "error" in json.loads(answer)) == (status, True)
    assert "Traceback" not in answer
    assert ask(paced, b'{"text_input": "a", "max_tokens": 1}')[0] == 200


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        pytest.param("/v2/models/other/generate", "POST", 404, id="unknown-model"),
        pytest.param(f"/v2/models/{MODEL}/versions/9/generate", "POST", 404, id="unknown-version"),
        pytest.param("/v2/nothing", "POST", 404, id="unknown-path"),
        pytest.param(GENERATE, "GET", 405, id="get"),
    ],
)
def test_a_wrong_address_is_answered_over_http(paced: Serving, path: str, method: str, status: int) -> None:
    assert ask(paced, b'{"text_input": "a"}', path, method)[0] == status


def test_a_large_body_is_refused_by_the_model(paced: Serving) -> None:
    status, answer = ask(paced, b'{"text_input": "' + b"a" * 30_000_000 + b'"}')

    assert status == 400
    assert "text_input has 30000000 bytes, more than 100000 tokens can hold" in json.loads(answer)["error"]


def an_input(name: str, kind: str, shape: Sequence[int], raw: bytes | None) -> bytes:
    """A request with this input alone, whatever it is."""
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name=name, datatype=kind, shape=list(shape))
    if raw is not None:
        request.raw_input_contents.append(raw)
    return bytes(request.SerializeToString())


def twice(name: str) -> bytes:
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    for _ in range(2):
        request.inputs.add(name=name, datatype="INT32", shape=[1])
        request.raw_input_contents.append(bytes(4))
    return bytes(request.SerializeToString())


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(an_input("max_tokens", "FP32", [1], bytes(4)), id="wrong-type"),
        pytest.param(an_input("max_tokens", "INT32", [2], bytes(8)), id="wrong-shape"),
        pytest.param(an_input("max_tokens", "INT32", [1], bytes(3)), id="wrong-byte-size"),
        pytest.param(an_input("text_input", "BYTES", [1], b"\xff\xff\xff\x7fa"), id="wrong-length-prefix"),
        pytest.param(an_input("text_input", "BYTES", [1], None), id="no-data"),
        pytest.param(an_input("input_ids", "INT32", [-4], bytes(16)), id="negative-dimension"),
        pytest.param(an_input("input_ids", "INT32", [2**62, 4], bytes(16)), id="overflowing-dimension"),
        pytest.param(an_input("input_ids", "INT32", [0], b""), id="empty"),
        pytest.param(an_input("input_ids", "INT32", [2, 2], bytes(16)), id="too-many-dimensions"),
        pytest.param(an_input("beam_width", "INT32", [1], bytes(4)), id="unknown-input"),
        pytest.param(twice("max_tokens"), id="twice"),
        pytest.param(bytes(service_pb2.ModelInferRequest(model_name=MODEL).SerializeToString()), id="nothing"),
        pytest.param(bytes(service_pb2.ModelInferRequest(model_name="other").SerializeToString()), id="unknown-model"),
    ],
)
async def test_a_bad_message_is_answered_over_grpc(paced: Serving, request_bytes: bytes) -> None:
    async with Client(paced.grpc, channels=1) as client:
        bad = await client.ask(request_bytes)
        good = await client.ask(a_request(input_ids=[20], max_tokens=3))

    assert bad.error
    assert "Traceback" not in bad.error
    assert good.tokens == [token_at(position) for position in range(3)]


async def test_what_is_no_message_at_all_ends_its_stream_without_one(paced: Serving) -> None:
    async with Client(paced.grpc, channels=1) as client:
        bad = await client.ask(b"\xff\xff\xff")
        good = await client.ask(a_request(input_ids=[20], max_tokens=3))

    assert (bad.messages, bad.broke_with) == ([], "")
    assert len(good.tokens) == 3


async def test_a_load_generator_may_give_every_input_and_send_all_on_one_stream(paced: Serving) -> None:
    """As perf_analyzer does: it knows no optional inputs, and waits for an empty last response."""
    texts = {"text_input": "Everyone is permitted"}
    numbers = {"max_tokens": 9, "top_k": 0, "seed": 7, "temperature": 0.0, "top_p": 1.0}
    truths = {"stream": True, "ignore_eos": True, "exclude_input_in_output": True}
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    request.parameters["triton_enable_empty_final_response"].bool_param = True
    kinds = {"seed": ("UINT64", np.uint64), "temperature": ("FP32", np.float32), "top_p": ("FP32", np.float32)}
    for name, text in texts.items():
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
        request.raw_input_contents.append(len(text).to_bytes(4, "little") + text.encode())
    for name, number in numbers.items():
        kind, dtype = kinds.get(name, ("INT32", np.int32))
        request.inputs.add(name=name, datatype=kind, shape=[1])
        request.raw_input_contents.append(np.array([number], dtype).tobytes())
    for name, truth in truths.items():
        request.inputs.add(name=name, datatype="BOOL", shape=[1])
        request.raw_input_contents.append(bytes([truth]))

    async def many() -> Any:
        for number in range(50):
            request.id = str(number)
            yield request.SerializeToString()

    tokens: dict[str, int] = {}
    ended: set[str] = set()
    async with grpc.aio.insecure_channel(paced.grpc) as channel:
        replies: Any = channel.stream_stream(METHOD, None, service_pb2.ModelStreamInferResponse.FromString)(many())
        async for reply in replies:
            assert not reply.error_message
            response = reply.infer_response
            tokens[response.id] = tokens.get(response.id, 0) + sum(
                output.shape[0] for output in response.outputs if output.name == "output_ids"
            )
            if response.parameters["triton_final_response"].bool_param:
                ended.add(response.id)

    assert tokens == {str(number): 9 for number in range(50)}
    assert len(ended) == 50


async def test_readiness_of_the_model_is_told(paced: Serving) -> None:
    status, _ = ask(paced, b"", f"/v2/models/{MODEL}/ready", "GET")
    other, _ = ask(paced, b"", "/v2/models/other/ready", "GET")

    assert (status, other) == (200, 400)


async def test_responses_gather_tokens_where_a_client_wants_fewer(paced: Serving) -> None:
    request = service_pb2.ModelInferRequest.FromString(a_request(input_ids=[20], max_tokens=33))
    request.parameters["stream_interval"].int64_param = 8

    async with Client(paced.grpc, channels=1) as client:
        answer = await client.ask(bytes(request.SerializeToString()))

    assert answer.tokens == [token_at(position) for position in range(33)]
    assert len(answer.messages) <= 6
