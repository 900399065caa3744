"""What Triton calls, with a stand-in for Triton's own module."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nemotron_api.errors import InvalidRequest
from nemotron_backend.answer import Chunk

pytestmark = pytest.mark.unit

CHUNK = Chunk("a", (5,), "", 2, 1)
FINAL = 1


@dataclass
class Sender:
    sent: list[tuple[Any, int]] = field(default_factory=list)
    asked: int = 0

    def send(self, response: Any, flags: int) -> None:
        self.sent.append((response, flags))

    def is_cancelled(self) -> bool:
        self.asked += 1
        return True


@dataclass
class Request:
    """A Triton request with one text; `wanted` are the outputs it names, or all."""

    wanted: tuple[str, ...] = ("text_output", "output_ids", "finish_reason", "prompt_tokens", "completion_tokens")
    parameters_json: str = "{}"
    timeout_us: int = 0
    sender: Sender = field(default_factory=Sender)

    def get_response_sender(self) -> Sender:
        return self.sender

    def requested_output_names(self) -> list[str]:
        return list(self.wanted)

    def parameters(self) -> str:
        return self.parameters_json

    def timeout(self) -> int:
        return self.timeout_us

    def inputs(self) -> list[Any]:
        text = np.array([b"hi"], dtype=np.object_)
        return [SimpleNamespace(name=lambda: "text_input", as_numpy=lambda: text)]


@pytest.fixture
def triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """nemotron_backend.triton, where Triton's module is this stand-in."""
    utils: Any = ModuleType("triton_python_backend_utils")
    utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL = FINAL
    utils.Tensor = lambda name, array: SimpleNamespace(name=name, array=array)
    utils.InferenceResponse = lambda output_tensors, error=None: SimpleNamespace(outputs=output_tensors, error=error)
    utils.TritonError = type(
        "TritonError", (), {"INVALID_ARG": 3, "__init__": lambda self, text, code: setattr(self, "text", text)}
    )
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    for name in ("nemotron_backend.triton", "nemotron_backend.model"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("nemotron_backend.triton")
    for name in ("nemotron_backend.triton", "nemotron_backend.model"):
        sys.modules.pop(name, None)


def test_only_the_outputs_that_are_wanted_are_made(triton: Any) -> None:
    request = Request(wanted=("output_ids",))

    triton.TritonReply(request).send(CHUNK, final=False)

    ((response, flags),) = request.sender.sent
    assert [tensor.name for tensor in response.outputs] == ["output_ids"]
    assert flags == 0


@pytest.mark.parametrize("last", ["send", "fail"])
def test_nothing_is_sent_or_asked_after_the_last_response(triton: Any, last: str) -> None:
    request = Request()
    reply = triton.TritonReply(request)

    if last == "send":
        reply.send(CHUNK, final=True)
    else:
        reply.fail(InvalidRequest("why"))
    with pytest.raises(RuntimeError, match="the last response"):
        reply.fail(InvalidRequest("again"))

    assert [flags for _, flags in request.sender.sent] == [FINAL]
    assert not reply.is_cancelled()
    assert request.sender.asked == 0


def test_a_request_is_read_with_its_wishes_first(triton: Any) -> None:
    call = triton.read(Request(parameters_json='{"client": "a", "triton_x": 1}', timeout_us=500_000), 100)

    assert (call.wishes.client, call.wishes.timeout_seconds) == ("a", 0.5)
    assert call.read().prompt == "hi"
    unknown = triton.read(Request(parameters_json='{"temprature": 1}'), 100)
    with pytest.raises(InvalidRequest, match="temprature"):
        unknown.read()


@pytest.mark.parametrize(
    ("refusing", "failed", "stall", "ready"),
    [
        pytest.param(False, False, 0.1, True, id="well"),
        pytest.param(True, False, 0.1, False, id="draining"),
        pytest.param(False, True, 0.1, False, id="failed"),
        pytest.param(False, False, 61.0, False, id="stalled"),
    ],
)
def test_newer_servers_are_told_whether_it_is_ready(
    triton: Any, refusing: bool, failed: bool, stall: float, ready: bool
) -> None:
    model = importlib.import_module("nemotron_backend.model").TritonPythonModel()
    model._service = SimpleNamespace(is_refusing=lambda: refusing, has_failed=failed, stall_seconds=stall)

    assert model.is_ready() is ready
