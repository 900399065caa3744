"""Stream text from a deployment: `client.py --url dns:///nano-pods.default.svc:8001 --model nano "Hello"`.

The name `<deployment>-pods` resolves to every replica; round_robin sends each request to the next one. Where a replica
goes away, another one takes over: from the beginning, or after the tokens that arrived. Needs tritonclient[grpc] and
numpy.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import InferInput, InferResult
from tritonclient.grpc.aio import InferenceServerClient

SERVICE_CONFIG: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
CHANNEL_OPTIONS = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    # A replica that comes or goes is seen within seconds, not after the default half minute.
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # A node that vanishes closes no connection: ask for a sign of life while a stream is open. A server with gRPC's own
    # limits takes offence at such questions only after minutes of silence, when Patience has long ended.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]
# An error inside a stream carries no code, only a text: these are in the texts of errors that only this replica has.
TRY_ELSEWHERE = ("Overloaded:", "ShuttingDown:", "has no available versions", "is not healthy")
TENSORS = {
    "text_input": ("BYTES", np.object_),
    "input_ids": ("INT32", np.int32),
    "resume_ids": ("INT32", np.int32),
    "max_tokens": ("INT32", np.int32),
    "min_tokens": ("INT32", np.int32),
    "stream": ("BOOL", np.bool_),
    "temperature": ("FP32", np.float32),
    "top_k": ("INT32", np.int32),
    "top_p": ("FP32", np.float32),
    "min_p": ("FP32", np.float32),
    "seed": ("UINT64", np.uint64),
    "repetition_penalty": ("FP32", np.float32),
    "presence_penalty": ("FP32", np.float32),
    "frequency_penalty": ("FP32", np.float32),
    "bad_words": ("BYTES", np.object_),
    "stop_words": ("BYTES", np.object_),
    "ignore_eos": ("BOOL", np.bool_),
    "reasoning_budget": ("INT32", np.int32),
}
CHAT = "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
NOT_THINKING, THINKING = "<think></think>", "<think>\n"


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one response brings; `finish_reason` is empty until the last one."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class GenerationError(Exception):
    """The request failed; `try_elsewhere` says that another replica, or a later try, may serve it."""

    def __init__(self, message: str, *, try_elsewhere: bool) -> None:
        super().__init__(message)
        self.try_elsewhere = try_elsewhere


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds, and how often to try again."""

    whole: float = 600.0
    between_chunks: float = 120.0
    retries: int = 5
    first_pause: float = 0.2


def connect(
    url: str, *, tls: bool = False, ca: str | None = None, cert: str | None = None, key: str | None = None
) -> InferenceServerClient:
    """A client for all replicas behind `url`; share it among requests and close it, or use `async with`."""
    return InferenceServerClient(
        url,
        ssl=tls,
        root_certificates=ca,
        certificate_chain=cert,
        private_key=key,
        channel_args=CHANNEL_OPTIONS,
    )


async def stream(
    client: InferenceServerClient, model: str, settings: Mapping[str, Any], patience: Patience = Patience()
) -> AsyncGenerator[Chunk, None]:
    """The answer, chunk by chunk. `settings` are input tensors by name: text_input, max_tokens, temperature, …

    Raises GenerationError; leaving the loop early, or cancelling the task, cancels the request on the server.
    """
    arrived = [*settings.get("resume_ids", ())]
    deadline = time.monotonic() + patience.whole
    for attempt in range(patience.retries + 1):
        resuming = {"resume_ids": arrived} if arrived else {}
        inputs = [tensor(name, value) for name, value in {**settings, **resuming, "stream": True}.items()]
        try:
            async with aclosing(attempt_once(client, model, inputs, deadline, patience.between_chunks)) as chunks:
                async for chunk in chunks:
                    arrived.extend(chunk.token_ids)
                    yield chunk
            return
        except GenerationError as error:
            if not error.try_elsewhere or attempt == patience.retries:
                raise
        await asyncio.sleep(patience.first_pause * 2**attempt * random.uniform(0.5, 1.0))


async def attempt_once(
    client: InferenceServerClient, model: str, inputs: Sequence[InferInput], deadline: float, between_chunks: float
) -> AsyncGenerator[Chunk, None]:
    """One stream for one request, since Triton cancels everything a cancelled stream carries."""

    async def requests() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": model, "inputs": inputs}

    call = client.stream_infer(requests(), stream_timeout=deadline - time.monotonic())
    finish_reason = ""
    try:
        while True:
            async with asyncio.timeout(between_chunks):
                result, error = await anext(call)
            if error is not None:
                raise in_band(error.message())
            chunk = chunk_of(result)
            finish_reason = chunk.finish_reason
            yield chunk
    except StopAsyncIteration as end:
        if not finish_reason:
            raise GenerationError("the stream ended before the answer did", try_elsewhere=True) from end
    except grpc.aio.AioRpcError as error:
        unavailable = error.code() is grpc.StatusCode.UNAVAILABLE
        raise GenerationError(f"{error.code().name}: {error.details()}", try_elsewhere=unavailable) from error
    except TimeoutError as error:
        raise GenerationError(f"the replica sent nothing for {between_chunks:g} s", try_elsewhere=True) from error
    finally:
        call.cancel()  # of no effect when the stream has ended


def in_band(message: str) -> GenerationError:
    """The error a response of the stream speaks of."""
    return GenerationError(message, try_elsewhere=any(sign in message for sign in TRY_ELSEWHERE))


def tensor(name: str, value: Any) -> InferInput:
    """One input tensor of one dimension; text goes as UTF-8."""
    datatype, dtype = TENSORS[name]
    values = [value] if np.isscalar(value) else list(value)
    array = np.array([v.encode() if isinstance(v, str) else v for v in values], dtype=dtype)
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def chunk_of(result: InferResult) -> Chunk:
    return Chunk(
        text=result.as_numpy("text_output").item().decode(),
        token_ids=tuple(result.as_numpy("output_ids").tolist()),
        finish_reason=result.as_numpy("finish_reason").item().decode(),
        prompt_tokens=int(result.as_numpy("prompt_tokens").item()),
        completion_tokens=int(result.as_numpy("completion_tokens").item()),
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("prompt")
    parser.add_argument("--url", default="localhost:8001", help="host:port, or dns:///<deployment>-pods.<ns>.svc:8001")
    parser.add_argument("--model", required=True)
    parser.add_argument("--chat", action="store_true", help="ask as a user, instead of having the text continued")
    parser.add_argument("--think", action="store_true", help="let the model think before it answers; implies --chat")
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--min-p", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--repetition-penalty", type=float)
    parser.add_argument("--presence-penalty", type=float)
    parser.add_argument("--frequency-penalty", type=float)
    parser.add_argument("--min-tokens", type=int)
    parser.add_argument("--reasoning-budget", type=int, metavar="TOKENS", help="with --think: think no longer")
    parser.add_argument("--stop-words", nargs="+", metavar="TEXT", help="end where one of these would begin")
    parser.add_argument("--bad-words", nargs="+", metavar="TEXT", help="never say these")
    parser.add_argument("--ignore-eos", action="store_true", help="go on after the model's end-of-text token")
    parser.add_argument("--timeout", type=float, default=Patience().whole, help="seconds for the whole answer")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--ca", help="PEM file of the authority that signed the server's certificate")
    parser.add_argument("--cert", help="PEM file of this client's certificate")
    parser.add_argument("--key", help="PEM file of this client's key")
    return parser.parse_args(arguments)


def text_of(options: argparse.Namespace) -> str:
    """The prompt as it stands, or in the form in which the model is asked."""
    if options.think:
        return CHAT.format(options.prompt) + THINKING
    return CHAT.format(options.prompt) + NOT_THINKING if options.chat else str(options.prompt)


async def run(options: argparse.Namespace) -> None:
    """Print the answer as it comes, then a line of counts to standard error."""
    settings = {name: value for name in TENSORS if (value := getattr(options, name, None)) is not None}
    settings["text_input"] = text_of(options)
    chunk = None
    async with connect(options.url, tls=options.tls, ca=options.ca, cert=options.cert, key=options.key) as client:
        async for chunk in stream(client, options.model, settings, Patience(whole=options.timeout)):
            print(chunk.text, end="", flush=True)
    print()
    if chunk is not None:
        print(f"[{chunk.prompt_tokens} + {chunk.completion_tokens} tokens, {chunk.finish_reason}]", file=sys.stderr)


def main() -> int:
    try:
        asyncio.run(run(parse()))
    except GenerationError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ncancelled", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
