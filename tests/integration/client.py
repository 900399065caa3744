"""Ask a Triton server as clients do."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient

from nemotron_api.tensors import INPUTS

MODEL = "tiny"
NUMPY = {"BYTES": np.object_, "BOOL": np.bool_, "INT32": np.int32, "UINT64": np.uint64, "FP32": np.float32}
MORE = (
    "sequence_index",
    "output_log_probs",
    "cum_log_probs",
    "top_ids",
    "top_log_probs",
    "prompt_log_probs",
    "prompt_top_ids",
    "prompt_top_log_probs",
)
DATATYPES = {tensor.name: tensor.datatype for tensor in INPUTS}


class RequestFailed(Exception):
    """The server answered with an error, whose text this is."""


@dataclass(frozen=True, slots=True)
class Response:
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    more: Mapping[str, Any]
    """The outputs that only some requests ask for, by name."""


async def stream(
    address: str, client: InferenceServerClient | None = None, **inputs: Any
) -> AsyncGenerator[Response, None]:
    """Responses as they come. Raises RequestFailed with the server's text; closing the iterator cancels."""
    own = client or InferenceServerClient(address)
    try:
        replies = own.stream_infer(_once({"stream": True, **inputs}))
        try:
            async for result, error in replies:
                if error:
                    raise RequestFailed(str(error.message()))
                response = _response(result)
                yield response
        finally:
            replies.cancel()
    finally:
        if client is None:
            await own.close()


async def generate(address: str, client: InferenceServerClient | None = None, **inputs: Any) -> list[Response]:
    return [response async for response in stream(address, client, **inputs)]


def joined(responses: list[Response]) -> tuple[int, ...]:
    return tuple(token for response in responses for token in response.token_ids)


def text_of(responses: list[Response]) -> str:
    return "".join(response.text for response in responses)


async def end_of(stream: AsyncIterator[Response]) -> str:
    """How a stream ends: its finish reason, the gRPC status it breaks with, or the reason the server gives."""
    reason = ""
    try:
        async for response in stream:
            reason = response.finish_reason
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    except RequestFailed as error:
        return str(error).partition(":")[0]
    return reason


async def _once(inputs: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    parameters = inputs.pop("parameters", None)
    timeout = inputs.pop("timeout", None)
    tensors = [tensor(name, value) for name, value in inputs.items()]
    yield {"model_name": MODEL, "inputs": tensors, "parameters": parameters, "timeout": timeout}


def tensor(name: str, value: Any) -> InferInput:
    """`value`, a Python value or a list, as the input `name`."""
    items = value if isinstance(value, list) else [value]
    values = [item.encode() if isinstance(item, str) else item for item in items]
    array = np.array(values, dtype=NUMPY[DATATYPES[name]])
    made = InferInput(name, list(array.shape), DATATYPES[name])
    made.set_data_from_numpy(array)
    return made


def _response(result: Any) -> Response:
    return Response(
        text=result.as_numpy("text_output")[0].decode(),
        token_ids=tuple(result.as_numpy("output_ids").tolist()),
        finish_reason=result.as_numpy("finish_reason")[0].decode(),
        prompt_tokens=int(result.as_numpy("prompt_tokens")[0]),
        completion_tokens=int(result.as_numpy("completion_tokens")[0]),
        more={name: array.tolist() for name in MORE if (array := result.as_numpy(name)) is not None},
    )
