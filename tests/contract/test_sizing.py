"""What sizing says a sequence takes is what the runtime takes."""

import pytest

from nemotron_api.catalogue import MEMBERS, Member
from nemotron_api.sizing import RING_TOKENS, Setting, memory
from nemotron_runtime.config import PAGE_TOKENS, plan_config
from nemotron_runtime.memory import Memory
from nemotron_runtime.tails import RING

pytestmark = pytest.mark.contract


@pytest.mark.parametrize("kv", ["BF16", "FP8"])
@pytest.mark.parametrize("state", ["FP32", "FP16", "INT8"])
@pytest.mark.parametrize("member", MEMBERS.values(), ids=lambda member: member.name)
def test_a_slot_and_a_token_take_as_much_as_in_the_runtimes_pools(member: Member, state: str, kv: str) -> None:
    runtime = plan_config("BF16", 2, 64, (), state, "FP8" if kv == "FP8" else None)  # type: ignore[arg-type]
    pools = Memory(member.config, runtime, device="meta")

    each = memory(member.config, Setting("BF16", state=state, kv=kv, ring=True))  # type: ignore[arg-type]

    assert RING_TOKENS == RING
    assert each.slot == pools.slot_bytes
    assert each.kv_token * PAGE_TOKENS == pools.page_bytes
