"""Speak Triton's wire format, with the failures that a real server cannot be asked for."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

Act = Callable[[Any], AsyncIterator[Any]]


@dataclass
class ScriptedServer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated, untyped
    """Triton's wire format with failures a real server cannot be asked for; each call performs the next act."""

    acts: list[Act]
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        self.metadata.append(dict(context.invocation_metadata()))
        act = self.acts[min(len(self.requests), len(self.acts) - 1)]
        self.requests.append(await anext(requests))
        try:
            async for response in act(context):
                yield response
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def says(*texts: str, then: Act | None = None) -> Act:
    """An act that answers chunk by chunk, then ends, or goes on with another act."""

    async def act(context: Any) -> AsyncIterator[Any]:
        for number, text in enumerate(texts, 1):
            last = then is None and number == len(texts)
            yield response(text, [number], "length" if last else "", number)
        if then is not None:
            async for one in then(context):
                yield one

    return act


def fails(code: grpc.StatusCode) -> Act:
    async def act(context: Any) -> AsyncIterator[Any]:
        await context.abort(code, "scripted")
        yield

    return act


def fails_in_band(message: str) -> Act:
    async def act(_: Any) -> AsyncIterator[Any]:
        yield service_pb2.ModelStreamInferResponse(error_message=message)

    return act


async def ends(_: Any) -> AsyncIterator[Any]:
    return
    yield


async def hangs(_: Any) -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield


def response(text: str, ids: list[int], reason: str, count: int) -> Any:
    reply = service_pb2.ModelInferResponse(model_name="tiny")
    for name, datatype, values in (
        ("text_output", "BYTES", [text]),
        ("output_ids", "INT32", ids),
        ("finish_reason", "BYTES", [reason]),
        ("prompt_tokens", "INT32", [3]),
        ("completion_tokens", "INT32", [count]),
    ):
        reply.outputs.add(name=name, datatype=datatype, shape=[len(values)])
        reply.raw_output_contents.append(raw(datatype, values))
    return service_pb2.ModelStreamInferResponse(infer_response=reply)


def raw(datatype: str, values: list[Any]) -> bytes:
    if datatype == "INT32":
        return np.array(values, dtype=np.int32).tobytes()
    encoded = [value.encode() for value in values]
    return b"".join(len(value).to_bytes(4, "little") + value for value in encoded)


@asynccontextmanager
async def serving(server: ScriptedServer, port: int = 0) -> AsyncGenerator[int, None]:
    """The port of a gRPC server on loopback that speaks for `server`."""
    listener = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(server, listener)
    bound = listener.add_insecure_port(f"127.0.0.1:{port}")
    await listener.start()
    try:
        yield bound
    finally:
        await listener.stop(None)
