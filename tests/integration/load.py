"""Load a Triton server with many streams, spending little on each message."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from tests.integration.client import MODEL

METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"


@dataclass(slots=True)
class Answer:
    """What one stream brought: raw messages with the seconds at which they came, read when time no longer counts."""

    sent_at: float
    messages: list[tuple[float, bytes]] = field(default_factory=list)
    broke_with: str = ""

    @property
    def responses(self) -> list[Any]:
        return [service_pb2.ModelStreamInferResponse.FromString(message) for _, message in self.messages]

    @property
    def tokens(self) -> list[int]:
        return [token for response in self.responses for token in _ints(response.infer_response, "output_ids")]

    @property
    def error(self) -> str:
        """The server's words, or the status the stream broke with; empty when it ended well."""
        return next((r.error_message for r in self.responses if r.error_message), self.broke_with)

    @property
    def first_token_seconds(self) -> float:
        return self.messages[0][0] - self.sent_at

    @property
    def gaps(self) -> list[float]:
        """Seconds between a response and the one before it."""
        return [later - earlier for (earlier, _), (later, _) in pairwise(self.messages)]


def a_request(*outputs: str, **inputs: int | bool | Sequence[int]) -> bytes:
    """A request's bytes; values as they go on the wire: whole numbers, truths, or token ids. No outputs means all."""
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    for name in outputs:
        request.outputs.add(name=name)
    for name, value in {"stream": True, **inputs}.items():
        array = np.array(value if isinstance(value, Sequence) else [value])
        kind, dtype = ("BOOL", np.bool_) if array.dtype == bool else ("INT32", np.int32)
        request.inputs.add(name=name, datatype=kind, shape=[array.size])
        request.raw_input_contents.append(array.astype(dtype).tobytes())
    return bytes(request.SerializeToString())


class Client:
    """Streams over some channels, one request on each stream."""

    def __init__(self, address: str, channels: int = 4) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(address, options) for _ in range(channels)]
        self._started = 0

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(channel.close(None) for channel in self._channels))

    async def ask(self, request: bytes, *, leave_after: int | None = None) -> Answer:
        """The whole answer; or cancels after so many responses."""
        self._started += 1
        channel = self._channels[self._started % len(self._channels)]
        call: Any = channel.stream_stream(METHOD, None, None)(_once(request))
        answer = Answer(time.perf_counter())
        try:
            async for message in call:
                answer.messages.append((time.perf_counter(), message))
                if leave_after is not None and len(answer.messages) >= leave_after:
                    call.cancel()
                    break
        except grpc.aio.AioRpcError as error:
            answer.broke_with = error.code().name
        return answer

    async def ask_many(
        self, request: bytes, count: int, at_once: int, *, leave_after: int | None = None
    ) -> list[Answer]:
        """`count` answers, `at_once` of them in flight."""
        free = asyncio.Semaphore(at_once)

        async def one() -> Answer:
            async with free:
                return await self.ask(request, leave_after=leave_after)

        return await asyncio.gather(*(one() for _ in range(count)))


async def _once(request: bytes) -> Any:
    yield request


def _ints(response: Any, name: str) -> list[int]:
    names = [output.name for output in response.outputs]
    if name not in names:
        return []
    content: list[int] = np.frombuffer(response.raw_output_contents[names.index(name)], np.int32).tolist()
    return content


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used."""

    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory a process holds, shared memory included."""

    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
