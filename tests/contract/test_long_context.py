"""A long context costs the memory of its keys and values, and a step what its tokens' attention takes."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nemotron_runtime import pack
from nemotron_runtime.opening import PREFILL_TOKENS
from tests.builders.checkpoints import TINY, a_checkpoint
from tests.builders.player import Player

pytestmark = pytest.mark.contract

LENGTH = 8192


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the largest tensor made since it was last asked; what lies in the engine's own memory is not made."""

    def __init__(self, kept: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._kept = {tensor.untyped_storage().data_ptr() for tensor in kept}
        self._bytes = 0

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.untyped_storage().data_ptr() not in self._kept:
                self._bytes = max(self._bytes, tensor.untyped_storage().nbytes())
        return out

    def asked(self) -> int:
        found, self._bytes = self._bytes, 0
        return found


@pytest.fixture(scope="module")
def player(tmp_path_factory: Any) -> Player:
    root: Path = tmp_path_factory.mktemp("long")
    pack(a_checkpoint(root / "c"), root / "engine", dtype="FP32", max_batch=1, max_sequence_tokens=LENGTH + 40)
    return Player(root / "engine", exact=False)


def test_no_step_of_a_long_prompt_makes_a_tensor_larger_than_its_tokens_attention(player: Player) -> None:
    memory, dice = player.memory, random.Random(0)
    request = player.begin(dice.choices(range(TINY["vocab_size"]), k=LENGTH + 40))
    per_token = memory.page_bytes // memory.page_tokens
    largest: dict[int, int] = {}

    with Largest([memory.keys, memory.values, *memory.stacks]) as made:
        for stop in range(PREFILL_TOKENS, LENGTH + 1, PREFILL_TOKENS):
            logits = player.feed(request, [PREFILL_TOKENS])
            largest[stop] = made.asked()
        decoded = torch.cat([player.feed(request, [1]) for _ in range(20)])
        decoding = made.asked()

    # then a chunk makes one number per token of its own and token before, and no more of them for the prompt's length
    assert request.computed == LENGTH + 20
    assert torch.cat([logits, decoded]).isfinite().all()
    assert all(found <= max(4 * PREFILL_TOKENS * stop, largest[PREFILL_TOKENS]) for stop, found in largest.items())
    assert decoding <= per_token * (LENGTH + 40)


def test_a_sequence_holds_a_slot_of_fixed_size_and_its_keys_and_values(player: Player) -> None:
    config, memory = player.config, player.memory

    assert memory.page_bytes == memory.page_tokens * config.kv_bytes_per_token(4)
    assert memory.keys.nbytes + memory.values.nbytes == memory.page_bytes * (player.runtime.pages + 1)
    assert sum(stack.nbytes for stack in memory.stacks) == memory.slot_bytes * player.runtime.slots
