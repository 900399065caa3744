"""Thoughts end in time."""

from dataclasses import replace

import pytest
import torch

from nemotron_runtime import ThinkingBudget
from tests.builders.choices import a_choice, some_logits, the_token

pytestmark = pytest.mark.unit


BUDGET = ThinkingBudget(start_id=1, end_id=2, newline_ids=frozenset({3, 4}), tokens=3, grace=4)
THOUGHT = 9


@pytest.mark.parametrize(
    ("prompt", "output", "is_ended"),
    [
        pytest.param([1], [THOUGHT] * 2, False, id="within-the-budget"),
        pytest.param([1], [THOUGHT] * 5, False, id="past-it-in-the-middle-of-a-line"),
        pytest.param([1], [THOUGHT, 3, THOUGHT], False, id="a-newline-within-the-budget"),
        pytest.param([1], [THOUGHT] * 3 + [3], True, id="the-first-newline-past-it"),
        pytest.param([1], [THOUGHT, THOUGHT, 4], True, id="a-newline-as-the-last-thought-of-it"),
        pytest.param([1], [THOUGHT] * 6, False, id="within-the-grace"),
        pytest.param([1], [THOUGHT] * 7, True, id="past-the-grace"),
        pytest.param([1], [THOUGHT] * 3 + [3, 2, THOUGHT, 3], False, id="thoughts-have-ended"),
        pytest.param([1, 2], [THOUGHT] * 9, False, id="thinking-was-off"),
        pytest.param([0], [THOUGHT] * 9, False, id="never-began"),
        pytest.param([1, 2, 1], [THOUGHT] * 9, True, id="an-earlier-turn-thought-too"),
        pytest.param([1, THOUGHT, THOUGHT], [THOUGHT] * 2 + [3], True, id="thoughts-of-the-prompt-do-not-count"),
        pytest.param([1, THOUGHT, THOUGHT], [THOUGHT, 3], False, id="thoughts-of-the-prompt-do-not-count-still"),
        pytest.param([1] + [THOUGHT] * 5, [THOUGHT] * 4, False, id="thoughts-of-the-prompt-do-not-count-for-the-grace"),
        pytest.param([0], [THOUGHT] * 5 + [1, THOUGHT, 3], False, id="counted-from-where-thinking-begins"),
        pytest.param([0], [THOUGHT] * 5 + [1, THOUGHT, THOUGHT, 3], True, id="begun-in-the-output"),
    ],
)
def test_thoughts_end_at_the_first_newline_past_their_budget_or_after_the_grace(
    prompt: list[int], output: list[int], is_ended: bool
) -> None:
    choice = a_choice(*output, prompt=prompt, thinking=BUDGET, temperature=1.0)

    assert (the_token(some_logits(1).index_fill(1, torch.tensor([2]), -1e9), choice) == 2) == is_ended


def test_a_budget_of_0_ends_thinking_at_the_prompts_own_newline() -> None:
    choice = a_choice(prompt=[1, 3], thinking=replace(BUDGET, tokens=0))

    assert the_token(some_logits(1), choice) == 2
