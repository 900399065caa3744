"""Tier E1: in exact mode logits are a function of the tokens before them alone, to the bit, whatever else happens."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nemotron_runtime import pack
from nemotron_runtime.config import Precision
from nemotron_runtime.executor import open_executor
from tests.builders.checkpoints import TINY, a_checkpoint
from tests.builders.company import Ask, Guesser, Opener, Prefix, Room, serve

pytestmark = pytest.mark.contract

TRAINED = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"
VOCABULARY = TINY["vocab_size"]

SHAPES = [
    pytest.param({}, id="all-four-kinds-of-block"),
    pytest.param({"hybrid_override_pattern": "MMM"}, id="mamba-alone"),
    pytest.param({"hybrid_override_pattern": "*E*"}, id="attention-and-experts"),
    pytest.param({"hybrid_override_pattern": "M-M*-M-", "mamba_head_dim": 80}, id="dense-head-dim-80"),
    pytest.param({"moe_latent_size": None, "num_experts_per_tok": 8}, id="every-expert-at-full-width"),
    pytest.param({"use_bias": True, "mlp_bias": True, "n_group": 4, "topk_group": 2}, id="biases-and-groups"),
]


FORMATS = [
    pytest.param({"state_dtype": "FP16"}, id="states-in-FP16"),
    pytest.param({"state_dtype": "INT8"}, id="states-in-INT8"),
    pytest.param({"kv_dtype": "FP8"}, id="keys-and-values-in-FP8"),
    pytest.param({"dtype": "BF16", "state_dtype": "INT8", "kv_dtype": "FP8"}, id="all-of-it-narrow"),
]


def a_crowd(seed: int, seeds: int = 99) -> list[Ask]:
    """Prompts of 1 to 150 tokens, some of which begin as others do, of different priorities, greedy and sampled."""
    dice = random.Random(seed)
    stem = [dice.randrange(VOCABULARY) for _ in range(120)]
    asks = []
    for _ in range(14):
        begins = stem[: dice.choice([0, 0, 16, 57, 90, 120])]
        more = [dice.randrange(VOCABULARY) for _ in range(dice.choice([1, 2, 15, 16, 17, 40]))]
        hot = dice.choice([0.0, 0.8])
        asks.append(Ask((*begins, *more), dice.randint(1, 45), dice.randint(0, 2), hot, dice.randrange(seeds)))
    return asks


def packed(root: Path, changes: dict[str, Any], dtype: Precision = "FP32", **formats: Any) -> Path:
    checkpoint = a_checkpoint(root / "checkpoint", **changes)
    pack(checkpoint, root / "engine", **{"dtype": dtype, "max_batch": 4, "max_sequence_tokens": 240, **formats})
    return root / "engine"


def alone(
    directory: Path, asks: list[Ask], logits: dict[Prefix, Tensor], opener: Opener = open_executor
) -> list[list[int]]:
    """The answers when nobody else is there and nothing was kept, the whole prompt in one piece."""
    room = Room(max_batch=1, cache_slots=1, prefill_tokens=512)
    return [serve(directory, [ask], room, logits, exact=True, opener=opener)[0][0] for ask in asks]


@pytest.mark.parametrize("dtype", ["FP32", "BF16"])
@pytest.mark.parametrize("changes", SHAPES)
def test_company_changes_no_bit(changes: dict[str, Any], dtype: Precision, tmp_path: Path) -> None:
    company_changes_no_bit(packed(tmp_path, changes, dtype), a_crowd(seed=1))


@pytest.mark.parametrize("formats", FORMATS)
def test_company_changes_no_bit_of_what_is_rounded(formats: dict[str, Any], tmp_path: Path) -> None:
    # given few seeds, so that prefixes are shared
    company_changes_no_bit(packed(tmp_path, {}, **formats), a_crowd(seed=1, seeds=2))


def company_changes_no_bit(directory: Path, asks: list[Ask]) -> None:
    logits: dict[Prefix, Tensor] = {}
    expected = alone(directory, asks, logits)
    answers = {ask.prompt: answer for ask, answer in zip(asks, expected, strict=True)}
    guesser = Guesser(answers, random.Random(2), VOCABULARY)

    crowded, recorder, engine = serve(directory, asks, Room(pages=18, prefill_tokens=40), logits, guesser, exact=True)

    stats = engine.stats()
    assert recorder.differing == []
    assert crowded == expected
    assert recorder.rows > sum(map(len, expected)), "rejected drafts count as rows too"
    assert min(stats.preemptions, stats.prefix_hit_tokens, stats.accepted_tokens) > 0
    assert stats.drafted_tokens > stats.accepted_tokens


def test_drafts_of_the_models_own_module_change_no_bit(tmp_path: Path) -> None:
    # given the trained model, whose module is right often, on prompts of its own text
    pack(TRAINED, tmp_path, dtype="FP32", max_batch=4, max_sequence_tokens=240)
    text = [16 + byte for byte in (TRAINED / "chat_template.jinja").read_bytes()]
    asks = [
        Ask((*text[:start], *text[7 * start : 9 * start]), 40, start % 3, 0.7 * (start % 2))
        for start in range(3, 40, 4)
    ]
    logits: dict[Prefix, Tensor] = {}
    expected = alone(tmp_path, asks, logits)

    drafts: dict[Prefix, tuple[int, ...]] = {}
    for ask in asks:
        serve(tmp_path, [ask], Room(1, 1), logits, "module", exact=True, drafts=drafts)

    room = Room(pages=18, prefill_tokens=40)
    crowded, recorder, engine = serve(tmp_path, asks, room, logits, "module", exact=True, drafts=drafts)

    # then not even the drafts differ: the module's keys and values go through hits and preemptions, too
    stats = engine.stats()
    assert recorder.differing == recorder.differing_drafts == []
    assert crowded == expected
    assert min(stats.accepted_tokens, stats.preemptions, stats.prefix_hit_tokens) > 0


@pytest.mark.parametrize("formats", [pytest.param({}, id="FP32"), *FORMATS])
def test_other_pieces_of_a_prompt_change_no_bit(formats: dict[str, Any], tmp_path: Path) -> None:
    directory, asks = packed(tmp_path, {}, **formats), a_crowd(seed=3, seeds=2)
    logits: dict[Prefix, Tensor] = {}
    expected = alone(directory, asks, logits)

    for prefill_tokens in (7, 16, 33):
        answers, recorder, _ = serve(directory, asks, Room(prefill_tokens=prefill_tokens), logits, exact=True)
        assert recorder.differing == []
        assert answers == expected


@pytest.mark.parametrize("shared", [16, 17, 32, 33])
def test_a_hit_at_the_anchor_itself_changes_no_bit(shared: int, tmp_path: Path) -> None:
    # given a prompt whose state can be cut back to where it is stored, and one that goes on from there in a window
    dice = random.Random(shared)
    stem = tuple(dice.randrange(VOCABULARY) for _ in range(shared + 17))
    directory, asks = packed(tmp_path, {}, "FP32"), [Ask(stem, 2), Ask((*stem[:shared], 1 - stem[shared] % 2, 5), 4)]
    logits: dict[Prefix, Tensor] = {}
    expected = alone(directory, asks, logits)

    answers, recorder, engine = serve(directory, asks, Room(max_batch=1), logits, exact=True)

    assert engine.stats().prefix_hit_tokens == shared
    assert recorder.differing == []
    assert answers == expected


@pytest.mark.parametrize("dtype", ["FP32", "BF16"])
def test_sessions_that_were_parked_in_files_change_no_bit(dtype: Precision, tmp_path: Path) -> None:
    directory, asks = packed(tmp_path, {}, dtype), a_crowd(seed=4)
    logits: dict[Prefix, Tensor] = {}
    expected = alone(directory, asks, logits)

    room = Room(pages=18, prefill_tokens=40, park_bytes=0, park_directory=tmp_path / "parked")
    answers, recorder, engine = serve(directory, asks, room, logits, exact=True)

    assert recorder.differing == []
    assert answers == expected
    assert engine.stats().preemptions > 0
    assert list((tmp_path / "parked").iterdir()) == []


@pytest.mark.parametrize("formats", [pytest.param({}, id="FP32"), *FORMATS])
@pytest.mark.parametrize("park_bytes", [0, 40_000], ids=["no-memory", "memory-for-one-or-two"])
def test_sessions_that_nobody_has_room_for_change_no_bit(
    formats: dict[str, Any], park_bytes: int, tmp_path: Path
) -> None:
    directory, asks = packed(tmp_path, {}, **formats), a_crowd(seed=4, seeds=2)
    logits: dict[Prefix, Tensor] = {}
    expected = alone(directory, asks, logits)

    room = Room(pages=18, prefill_tokens=40, park_bytes=park_bytes)
    answers, recorder, engine = serve(directory, asks, room, logits, exact=True)

    assert recorder.differing == []
    assert answers == expected
    assert engine.stats().preemptions > 0


def test_fast_mode_may_differ_in_bits_which_shows_that_this_test_sees_them(tmp_path: Path) -> None:
    directory, asks = packed(tmp_path, {}, "FP32"), a_crowd(seed=1)
    logits: dict[Prefix, Tensor] = {}
    alone(directory, asks, logits)

    _, recorder, _ = serve(directory, asks, Room(prefill_tokens=40), logits, exact=False)

    assert recorder.differing
    assert all(torch.isfinite(row).all() for row in logits.values())
