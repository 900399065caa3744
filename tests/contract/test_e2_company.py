"""Tier E2: in fast mode, too, greedy tokens are the FP64 recurrence's, whatever company, cuts, hits and drafts."""

import random
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from nemotron_kernels.choose import Kernels
from nemotron_runtime import pack
from nemotron_runtime.executor import open_executor
from nemotron_runtime.speculation import Drafter, LookUp
from tests.builders.checkpoints import TINY, a_checkpoint
from tests.builders.company import Ask, Guesser, Room, serve
from tests.builders.exactness import CLOSE_CALLS_PER_TOKEN, close_calls, unexpected_tokens
from tests.builders.oracle import fp64_logits

pytestmark = pytest.mark.contract

TRAINED = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"
KERNELS: tuple[Kernels, ...] = ("native", "torch")
LONGEST = 240
TWICE = 80
"""Tokens of a prompt from which on it is sent twice in a row: the second one waits for the first's, and hits."""

SHAPES = [
    pytest.param({}, 40, id="all-four-kinds-of-block"),
    pytest.param({"hybrid_override_pattern": "MMM"}, 7, id="mamba-alone"),
    pytest.param({"hybrid_override_pattern": "*E*"}, 33, id="attention-and-experts"),
    pytest.param({"hybrid_override_pattern": "M-M*-M-", "mamba_head_dim": 80}, 16, id="dense-head-dim-80"),
    pytest.param({"moe_latent_size": None, "num_experts_per_tok": 8}, 64, id="every-expert-at-full-width"),
    pytest.param({"use_bias": True, "mlp_bias": True, "n_group": 4, "topk_group": 2}, 25, id="biases-and-groups"),
    pytest.param({"dt_shift": -9.0, "chunk_size": 128}, 50, id="steps-that-hardly-forget"),
]
"""Changes of a random model, and the prompt tokens of a step."""


def a_crowd(vocabulary: int, seed: int) -> list[Ask]:
    """Greedy requests of different priorities; some begin as others do, amid a block or not, and some come twice."""
    dice = random.Random(seed)
    stem = dice.choices(range(vocabulary), k=90)
    asks = []
    for _ in range(12):
        more = dice.choices(range(vocabulary), k=dice.choice([1, 2, 15, 16, 17, 40]))
        asks.append(Ask((*stem[: dice.choice([0, 16, 57, 90])], *more), dice.randint(1, 45), dice.randint(0, 2)))
    return [same for ask in asks for same in [ask] * (2 if len(ask.prompt) >= TWICE else 1)]


def judge(checkpoint: Path, asks: list[Ask], answers: list[list[int]]) -> None:
    """Teacher-forced: each token against the choice of the recurrence after the very tokens before it."""
    differing = 0
    for ask, answer in zip(asks, answers, strict=True):
        assert len(answer) == ask.max_tokens
        logits = fp64_logits(checkpoint, [*ask.prompt, *answer])[len(ask.prompt) - 1 : -1]
        assert unexpected_tokens(logits, answer) == []
        differing += close_calls(logits, answer)
    print(f"\nE2: {differing} of {sum(map(len, answers))} tokens differ from the FP64 recurrence's")
    assert differing <= CLOSE_CALLS_PER_TOKEN * sum(map(len, answers))


@pytest.mark.parametrize("drafts", ["guessed", "looked-up"])
@pytest.mark.parametrize(("changes", "prefill_tokens"), SHAPES)
@pytest.mark.parametrize("kernels", KERNELS)
def test_tokens_in_company_are_those_of_the_fp64_recurrence(
    kernels: Kernels, changes: dict[str, Any], prefill_tokens: int, drafts: str, tmp_path: Path
) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint", **changes)
    pack(checkpoint, tmp_path / "engine", dtype="FP32", max_batch=4, max_sequence_tokens=LONGEST)
    asks = a_crowd(TINY["vocab_size"], seed=9)
    opener = partial(open_executor, kernels=kernels)
    # given drafts that are right two times out of three, or whatever the text itself foretells
    alone, _, _ = serve(tmp_path / "engine", asks, Room(max_batch=1), {}, exact=False, opener=opener)
    answers = {ask.prompt: answer for ask, answer in zip(asks, alone, strict=True)}
    drafter: Drafter = Guesser(answers, random.Random(2), TINY["vocab_size"]) if drafts == "guessed" else LookUp()

    room = Room(pages=18, prefill_tokens=prefill_tokens)
    crowded, _, engine = serve(tmp_path / "engine", asks, room, {}, drafter, exact=False, opener=opener)

    stats = engine.stats()
    assert min(stats.preemptions, stats.prefix_hit_tokens) > 0
    assert stats.accepted_tokens > 0 or drafts == "looked-up", "a random model hardly ever repeats itself"
    judge(checkpoint, asks, crowded)


@pytest.mark.parametrize("drafts", ["module", "looked-up"])
@pytest.mark.parametrize("kernels", KERNELS)
def test_tokens_of_the_trained_model_in_company_are_those_of_the_fp64_recurrence(
    kernels: Kernels, drafts: Literal["module", "looked-up"], tmp_path: Path
) -> None:
    pack(TRAINED, tmp_path, dtype="FP32", max_batch=4, max_sequence_tokens=LONGEST)
    text = [16 + byte for byte in (TRAINED / "chat_template.jinja").read_bytes()]
    asks = [Ask((*text[:start], *text[7 * start : 9 * start]), 40, start % 3) for start in range(3, 40, 4)]

    room = Room(pages=18, prefill_tokens=40)
    drafter: Drafter | Literal["module"] = "module" if drafts == "module" else LookUp()
    answers, _, engine = serve(
        tmp_path, asks, room, {}, drafter, exact=False, opener=partial(open_executor, kernels=kernels)
    )

    stats = engine.stats()
    assert min(stats.preemptions, stats.prefix_hit_tokens, stats.accepted_tokens) > 0
    judge(TRAINED, asks, answers)
