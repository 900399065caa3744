"""What must not matter does not: cuts, company, places, failed drafts, and whose state a sequence goes on from."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nemotron_runtime import pack
from nemotron_runtime.tails import BLOCK, WINDOW, anchor_behind
from tests.builders.checkpoints import TINY, a_checkpoint
from tests.builders.player import Player

pytestmark = pytest.mark.contract

LENGTH = 100
VOCABULARY = TINY["vocab_size"]
TEXT, OTHER = (random.Random(seed).choices(range(VOCABULARY), k=LENGTH) for seed in (0, 1))


FORMATS = [
    pytest.param({"dtype": "FP32"}, id="FP32"),
    pytest.param({"dtype": "BF16", "state_dtype": "INT8", "kv_dtype": "FP8"}, id="all-narrow"),
]


@pytest.fixture(scope="module", params=FORMATS)
def directory(request: Any, tmp_path_factory: Any) -> Path:
    root: Path = tmp_path_factory.mktemp("invariants")
    checkpoint = a_checkpoint(root / "checkpoint")
    pack(checkpoint, root / "engine", max_batch=4, max_sequence_tokens=LENGTH + 12, **request.param)
    return root / "engine"


@pytest.fixture(scope="module")
def player(directory: Path) -> Player:
    return Player(directory)


@pytest.fixture(scope="module")
def known(player: Player) -> Tensor:
    """Logits (l, vocabulary) after each token of TEXT, one by one, with nobody else there."""
    return player.feed(player.begin(TEXT), [1] * LENGTH)


@given(cuts=st.sets(st.integers(1, LENGTH - 1), max_size=8))
@settings(max_examples=25)
def test_a_prompt_in_any_pieces_gives_the_logits_of_its_tokens_one_by_one(
    player: Player, known: Tensor, cuts: set[int]
) -> None:
    ends = [*sorted(cuts), LENGTH]

    logits = player.feed(player.begin(TEXT), [stop - start for start, stop in zip([0, *ends], ends, strict=False)])

    assert torch.equal(logits, known[[end - 1 for end in ends]])


@pytest.mark.parametrize("accepted", range(WINDOW))
@pytest.mark.parametrize("start", [1, 2 * BLOCK, 45])
def test_a_draft_taken_back_at_any_token_never_was(player: Player, known: Tensor, start: int, accepted: int) -> None:
    # given drafts of which the first so many are right
    right, wrong = TEXT[start + 1 : start + 1 + accepted], [(token + 1) % VOCABULARY for token in TEXT[start + 1 :]]
    drafts = (*right, *wrong[accepted : WINDOW - 1])
    request = player.begin(TEXT)
    player.feed(request, [start])

    (rows,) = player.compute((request, 1, drafts))
    request.computed += accepted

    assert torch.equal(rows[: accepted + 1], known[start : start + accepted + 1])
    assert not torch.equal(rows[-1], known[start + WINDOW - 1]) or accepted == WINDOW - 1
    after = request.computed
    assert torch.equal(player.feed(request, [1] * 20), known[after : after + 20])


@pytest.mark.parametrize("drafted", [False, True])
@pytest.mark.parametrize("length", [BLOCK, 47, 64])
def test_a_prefix_may_be_gone_on_from_at_any_cut_of_its_tail(
    player: Player, known: Tensor, length: int, drafted: bool
) -> None:
    anchor = anchor_behind(length - 3)
    assert length - anchor >= BLOCK
    for cut in range(max(1, anchor), length + 1):
        # given a sequence that parts from the text there, and ends with decodes and perhaps with drafts that failed
        source = player.begin([*TEXT[:cut], *OTHER[: LENGTH - cut]], slot=0)
        player.feed(source, [length - 3, 1, 1])
        player.compute((source, 1, (3,) * (WINDOW - 1) if drafted else ()))
        assert source.held.anchor == anchor
        # and that what somebody wrote behind its end is no number
        size = player.runtime.page_tokens
        if length % size:
            for pages in (player.memory.keys, player.memory.values):
                pages[:, source.held.pages[length // size], length % size :] = torch.nan

        request = player.fork(source, cut, TEXT, slot=1)

        pieces = [1, 1, WINDOW + 2] if cut % 2 else [WINDOW, 2]
        ends = [cut + sum(pieces[: place + 1]) - 1 for place in range(len(pieces))]
        assert torch.equal(player.feed(request, pieces), known[ends])


@given(order=st.permutations(range(4)), counts=st.tuples(*[st.integers(1, 30)] * 4), steps=st.integers(1, 3))
@settings(max_examples=25)
def test_neither_slot_nor_company_matter(
    player: Player, known: Tensor, order: list[int], counts: tuple[int, ...], steps: int
) -> None:
    requests = [player.begin(TEXT, slot=slot) for slot in order]

    for _ in range(steps):
        for request, logits in zip(
            requests, player.compute(*zip(requests, counts, [()] * 4, strict=True)), strict=True
        ):
            assert torch.equal(logits[0], known[request.computed - 1])


def test_the_state_of_an_empty_sequence_is_zero_whatever_was_there(player: Player) -> None:
    for stack in player.memory.stacks:
        stack[:, 3] = torch.nan if stack.is_floating_point() else 7
    request = player.begin(TEXT, slot=3)

    # then all of it is zero but for what says that no place of the ring holds a token
    filled = [stack for stack in player.memory.stacks if stack[:, 3].count_nonzero()]
    assert len(filled) == 1
    assert filled[0][:, 3].isposinf().all()
    assert not player.memory.keys.float()[:, request.held.pages].count_nonzero()
    # and the state stays so until a block of tokens is behind the anchor
    player.feed(request, [1] * (2 * BLOCK - 1))
    assert request.held.anchor == 0
    assert not any(states(player, layer, slot=3).count_nonzero() for layer in range(len(player.memory.rings)))


def states(player: Player, layer: int, slot: int) -> Tensor:
    """(h, p, n) FP32 of one Mamba block."""
    return player.memory.rings[layer].states.read(slice(slot, slot + 1))[0]


def test_other_slots_are_not_touched(player: Player) -> None:
    player.feed(player.begin(OTHER, slot=1), [LENGTH])
    before = [stack[:, 1].clone() for stack in player.memory.stacks]

    player.feed(player.begin(TEXT, slot=0), [40, 1, 1, WINDOW])

    assert all(torch.equal(stack[:, 1], kept) for stack, kept in zip(player.memory.stacks, before, strict=True))


@given(length=st.integers(1, LENGTH - 1))
@settings(max_examples=25)
def test_tokens_replayed_from_the_ring_leave_the_state_of_a_scan(player: Player, length: int) -> None:
    # given the same tokens one by one, of which the last one moves no anchor, and in one piece
    stepped, whole = player.begin(TEXT, slot=0), player.begin(TEXT, slot=1)

    player.feed(stepped, [1] * (length + 1))
    player.feed(whole, [length])

    assert stepped.held.anchor == (whole.held.anchor if length > WINDOW else 0)
    for layer, ring in enumerate(player.memory.rings):
        assert torch.equal(states(player, layer, 0), states(player, layer, 1))
        assert torch.equal(ring.before[0], ring.before[1])
