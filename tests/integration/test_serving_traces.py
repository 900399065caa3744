"""A caller's trace goes on in the replica, with one span for each request."""

import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tritonclient.grpc.aio import InferenceServerClient

from nemotron_api.build import Tracing
from tests.builders.paced_engine import Pace
from tests.integration.client import tensor
from tests.integration.serving import Serving

pytestmark = pytest.mark.integration

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Receiver:
    """An OTLP/HTTP endpoint on loopback that keeps what it gets."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    receiver.spans += [span for scope in resource.scope_spans for span in scope.spans]
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name is inherited
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1/traces"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


async def generate(server: Serving, headers: dict[str, str], **inputs: int) -> None:
    async def once() -> Any:
        given = {"stream": True, "max_tokens": 30, **inputs}
        yield {"model_name": "tiny", "inputs": [tensor("input_ids", [20] * 5), *map(tensor, given, given.values())]}

    async with InferenceServerClient(server.grpc) as client:
        async for _ in client.stream_infer(once(), headers=headers):
            pass


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: one.value for one in span.attributes}


async def test_each_request_is_one_span_of_its_callers_trace(
    start_paced: Callable[..., Serving], receiver: Receiver
) -> None:
    server = start_paced(Pace(0.02), tracing=Tracing(url=receiver.url, ratio=0.0))

    await generate(server, {"traceparent": f"00-{TRACE}-{CALLER}-01", "tracestate": "shop=7"})
    await generate(server, {"traceparent": f"00-{TRACE}-{CALLER}-01"}, num_return_sequences=99)
    await generate(server, {"traceparent": f"00-{'1' * 32}-{CALLER}-00"})
    await generate(server, {})
    server.wait(lambda: len(receiver.spans) >= 2, "two spans", seconds=10)
    server.stop()

    good, refused = receiver.spans
    assert (good.trace_id.hex(), good.parent_span_id.hex(), good.trace_state) == (TRACE, CALLER, "shop=7")
    assert good.name == "generate tiny"
    assert not good.events
    found = attributes(good)
    assert found["gen_ai.usage.input_tokens"].int_value == 5
    assert found["gen_ai.usage.output_tokens"].int_value == 30
    assert [v.string_value for v in found["gen_ai.response.finish_reasons"].array_value.values] == ["length"]
    seconds = (good.end_time_unix_nano - good.start_time_unix_nano) / 1e9
    assert 0 < found["gen_ai.latency.time_to_first_token"].double_value < seconds
    assert seconds > 29 * 0.02
    assert refused.status.code == 2
    reasons = attributes(refused)["gen_ai.response.finish_reasons"].array_value.values
    assert [v.string_value for v in reasons] == ["InvalidRequest"]


async def test_a_receiver_that_is_gone_harms_nobody(start_paced: Callable[..., Serving]) -> None:
    server = start_paced(Pace(0.02), tracing=Tracing(url="http://127.0.0.1:9/v1/traces"))

    await generate(server, {})

    assert server.stop() == 0
