"""A real server serves requests under their own terms, and tells how it fares."""

import asyncio
import json
from collections.abc import Callable

import pytest
from tritonclient.grpc import service_pb2

from tests.builders.metric_names import NAMES
from tests.builders.paced_engine import Pace
from tests.integration.load import Client, a_request
from tests.integration.serving import Serving

pytestmark = pytest.mark.integration


def asked_by(client: str, **inputs: int) -> bytes:
    """A request of that client."""
    request = service_pb2.ModelInferRequest.FromString(a_request(input_ids=[20] * 4, **inputs))
    request.parameters["client"].string_param = client
    request.parameters["request_priority"].int64_param = 5
    return bytes(request.SerializeToString())


async def test_one_client_may_have_so_many_requests_in_flight(start_paced: Callable[..., Serving]) -> None:
    server = start_paced(Pace(0.02, slots=4), client_limit=2, max_waiting=2)
    async with Client(server.grpc) as client:
        long = [asyncio.create_task(client.ask(asked_by("greedy", max_tokens=100))) for _ in range(2)]
        await asyncio.to_thread(server.wait, lambda: server.metrics()["nemotron_active_requests"] == 2, "both run")

        third = await client.ask(asked_by("greedy", max_tokens=2))
        other = await client.ask(asked_by("modest", max_tokens=2))
        assert third.error.startswith(
            "Overloaded: client 'greedy' has 2 answers in flight and 1 more asked for, at most 2 may be"
        )
        assert len(other.tokens) == 2
        assert [len(answer.tokens) for answer in await asyncio.gather(*long)] == [100, 100]

        crowd = [asked_by(str(number), max_tokens=30) for number in range(20)]
        answers = await asyncio.gather(*map(client.ask, crowd))

    refused = [answer.error for answer in answers if answer.error]
    # Two may wait, and more get in only as they come to run.
    assert 0 < len(refused) <= 18
    assert all("at the present pace, in about" in error for error in refused)


def test_a_deadline_in_json_is_kept(paced: Serving) -> None:
    status, body = paced.post({"text_input": "a", "max_tokens": 90_000, "timeout": 300_000})

    assert status != 200
    assert json.loads(body)["error"] == "DeadlineExceeded: the request's own timeout of 0.3 s has passed"


def test_a_scrape_shows_the_names_that_others_know(paced: Serving) -> None:
    paced.post({"text_input": ""})
    paced.wait(lambda: paced.failures("InvalidRequest") > 0, "the failure is counted")

    lines = [line for line in paced.get("metrics", "/metrics")[1].splitlines() if not line.startswith("#")]
    found = {line.partition("{")[0].partition(" ")[0] for line in lines}

    assert {name for name in found if name.startswith(("nemotron_", "nv_trt_llm_", "nv_llm_"))} == {
        name for _, name in NAMES
    }
    load = [line for line in lines if line.startswith("nv_trt_llm_request_metrics{")]
    assert all('model="tiny"' in line and 'version="1"' in line for line in load)
    words = {line.partition('request_type="')[2].partition('"')[0]: line.rpartition(" ")[2] for line in load}
    assert set(words) == {"active", "max", "scheduled", "context", "waiting"}
    assert float(words["max"]) == 256
