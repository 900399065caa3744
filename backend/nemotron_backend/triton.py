"""Speak to the Triton server: its tensors, response senders, codes and clocks."""

import json
from collections.abc import Mapping
from functools import partial
from threading import Lock
from typing import Any, Final

import triton_python_backend_utils as pb_utils

from nemotron_api.errors import NemotronError
from nemotron_backend import bounds, response, wishes
from nemotron_backend.answer import Chunk
from nemotron_backend.codes import code_of, text_of
from nemotron_backend.request import GenerationRequest, parse
from nemotron_backend.stream import Call

FINAL: Final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonReply:
    """The way back to the client of one Triton request; safe from any thread."""

    def __init__(self, request: Any) -> None:
        self._sender = request.get_response_sender()
        # All of them where the client named none. Each tensor of each response costs both processes some microseconds.
        self._wanted = frozenset(request.requested_output_names())
        # The server frees a request with its last response; asking about it afterwards would read freed memory.
        self._lock = Lock()
        self._ended = False

    def send(self, chunk: Chunk, *, final: bool) -> None:
        tensors = response.tensors(chunk).items()
        outputs = [pb_utils.Tensor(name, array) for name, array in tensors if name in self._wanted]
        self._send(pb_utils.InferenceResponse(output_tensors=outputs), final)

    def fail(self, error: NemotronError) -> None:
        failure = pb_utils.TritonError(text_of(error), getattr(pb_utils.TritonError, code_of(error)))
        self._send(pb_utils.InferenceResponse(output_tensors=[], error=failure), final=True)

    def is_cancelled(self) -> bool:
        with self._lock:
            return not self._ended and bool(self._sender.is_cancelled())

    def _send(self, message: Any, final: bool) -> None:
        with self._lock:
            if self._ended:
                raise RuntimeError("the last response of this request was sent before")
            self._ended = final
            self._sender.send(message, flags=FINAL if final else 0)


def read(request: Any, max_sequence_tokens: int) -> Call:
    """Raises InvalidRequest."""
    asked, rest = wishes.take(parameters(request))
    return Call(partial(_generation, request, rest, max_sequence_tokens), asked)


def _generation(request: Any, rest: Mapping[str, object], max_sequence_tokens: int) -> GenerationRequest:
    tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
    bounds.check(tensors, max_sequence_tokens)
    return parse(tensors, rest)


def parameters(request: Any) -> Mapping[str, object]:
    """The request's parameters without those that Triton's own protocol puts there.

    Its own deadline, which the KServe protocol calls `timeout` and counts in microseconds, is kept apart by the server.
    """
    given: dict[str, object] = json.loads(request.parameters() or "{}")
    timeout = {"timeout": request.timeout()} if request.timeout() else {}
    return {name: value for name, value in given.items() if not name.startswith("triton_")} | timeout
