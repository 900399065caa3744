"""A prompt may be cut anywhere into prefill chunks, and its states equal those of the whole."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nemotron_api.hybrid_config import read_config
from nemotron_runtime import SamplingParams, pack
from nemotron_runtime.config import load_config
from nemotron_runtime.executor import open_executor
from nemotron_runtime.memory import Memory
from nemotron_runtime.moves import ClearPages, ClearSlot
from nemotron_runtime.request import Lease, Request
from nemotron_runtime.scheduler import Slice
from tests.builders.checkpoints import a_checkpoint, an_oracle, oracle_logits
from tests.builders.numbers import FP32_ROUNDING, error

pytestmark = pytest.mark.contract

LENGTH = 45


@dataclass(frozen=True, slots=True)
class Model:
    """A packed random model, with transformers' logits (l, vocabulary) of one prompt."""

    directory: Path
    prompt: list[int]
    expected: Tensor

    def logits_at_cuts(self, cuts: list[int]) -> tuple[Tensor, Memory]:
        """The last token's logits (vocabulary) after a prefill in chunks that end at `cuts`, and what it left."""
        _, executor = open_executor(self.directory, load_config(self.directory))
        request = a_request(self.prompt, Lease(slot=1, pages=[3, 1, 4]))
        executor.move([ClearSlot(1), ClearPages([3, 1, 4])])
        logits = torch.empty(0)
        for stop in [*cuts, LENGTH]:
            piece = Slice(request, request.computed, stop - request.computed, is_last=stop == LENGTH)
            logits = executor.run([piece])
            request.computed, request.held.anchor = stop, piece.next_anchor
        return logits[0], executor.memory


def a_request(prompt: list[int], lease: Lease) -> Request:
    return Request(1, len(prompt), list(prompt), SamplingParams(), lambda event: None, lease=lease)


@pytest.fixture(scope="module")
def model(tmp_path_factory: Any) -> Model:
    directory = tmp_path_factory.mktemp("chunks")
    checkpoint = a_checkpoint(directory / "checkpoint")
    pack(checkpoint, directory / "engine", dtype="FP32", max_batch=2, max_sequence_tokens=48)
    prompt = torch.randint(61, (LENGTH,), generator=torch.Generator().manual_seed(0)).tolist()
    return Model(directory / "engine", prompt, oracle_logits(an_oracle(checkpoint), prompt))


@pytest.mark.parametrize("cut", range(1, LENGTH))
def test_every_single_cut_gives_the_whole_prompts_logits(model: Model, cut: int) -> None:
    logits, _ = model.logits_at_cuts([cut])

    assert error(logits, model.expected[-1]) < FP32_ROUNDING


@given(cuts=st.sets(st.integers(1, LENGTH - 1)))
def test_any_cuts_leave_the_whole_prompts_states(model: Model, cuts: set[int]) -> None:
    whole, memory = model.logits_at_cuts([])

    cut, cut_memory = model.logits_at_cuts(sorted(cuts))

    assert error(cut, whole) < FP32_ROUNDING
    for ring, cut_ring in zip(memory.rings, cut_memory.rings, strict=True):
        assert error(cut_ring.states.parts[0], ring.states.parts[0]) < FP32_ROUNDING
        assert error(cut_ring.taps, ring.taps) < FP32_ROUNDING
        assert torch.equal(cut_ring.keys.isinf(), ring.keys.isinf())
    assert error(cut_memory.keys, memory.keys) < FP32_ROUNDING


def test_a_prompt_fed_one_token_at_a_time_gives_the_whole_prompts_logits(model: Model) -> None:
    logits, _ = model.logits_at_cuts(list(range(1, LENGTH)))

    assert error(logits, model.expected[-1]) < FP32_ROUNDING


def test_other_slots_and_pages_are_not_touched(model: Model) -> None:
    _, memory = model.logits_at_cuts([17])

    assert sum(ring.states.parts[0][0].abs().sum() + ring.xs[0].abs().sum() for ring in memory.rings) == 0
    assert memory.keys[:, [0, 2]].abs().sum() == 0
    assert len(memory.rings) == read_config(model.directory).blocks("M")
    assert min(ring.states.parts[0][1].abs().max() for ring in memory.rings) > 0
