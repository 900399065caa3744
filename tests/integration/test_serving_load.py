"""Many streams at once lose nothing, and those that leave give everything back."""

import asyncio

import pytest

from tests.builders.paced_engine import token_at
from tests.integration.load import Client, a_request, resident_bytes
from tests.integration.serving import Serving

pytestmark = pytest.mark.integration


def is_free(serving: Serving) -> bool:
    """Whether no request holds anything."""
    values = serving.metrics()
    held = ("nemotron_active_requests", "nemotron_state_slots_used", "nemotron_kv_pages_used")
    return all(values[name] == 0 for name in (*held, "nemotron_waiting_requests"))


async def test_of_256_streams_not_a_token_is_lost(paced: Serving) -> None:
    async with Client(paced.grpc) as client:
        answers = await client.ask_many(a_request(input_ids=[20] * 8, max_tokens=40), 256, at_once=256)

    expected = [token_at(position) for position in range(40)]
    assert all(answer.tokens == expected for answer in answers)
    assert {answer.error for answer in answers} == {""}


async def test_a_thousand_streams_that_leave_give_everything_back(paced: Serving) -> None:
    before = paced.failures("Cancelled")
    request = a_request(input_ids=[20] * 8, max_tokens=90_000)

    async with Client(paced.grpc) as client:
        await client.ask_many(request, 1000, at_once=100, leave_after=2)

    await asyncio.to_thread(paced.wait, lambda: is_free(paced), "everything is free")
    paced.wait(lambda: paced.failures("Cancelled") == before + 1000, "each was counted")


async def test_memory_stays_flat_over_many_requests(paced: Serving) -> None:
    request = a_request(input_ids=[20] * 8, max_tokens=2, stream=False)

    async with Client(paced.grpc) as client:
        await client.ask_many(request, 1000, at_once=128)
        before = resident_bytes(paced.server()), resident_bytes(paced.stub())
        answers = await client.ask_many(request, 2000, at_once=128)
        after = resident_bytes(paced.server()), resident_bytes(paced.stub())

    assert {answer.error for answer in answers} == {""}
    # A leak of one response's tensors per request would be some megabytes.
    assert [then - now < 8 * 2**20 for now, then in zip(before, after, strict=True)] == [True, True]
