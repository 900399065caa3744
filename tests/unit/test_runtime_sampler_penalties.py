"""Biases, penalties and bans change the logits they speak of, in a fixed order."""

from typing import Any

import pytest
import torch
from torch import Tensor

from nemotron_runtime.sampler import Choice, choose
from tests.builders.choices import a_choice, some_logits, the_token

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("params", "output", "expected"),
    [
        pytest.param({}, [0], [4.0, 3.0, -1.0], id="nothing"),
        pytest.param({"repetition_penalty": 2.0}, [0], [2.0, 3.0, -2.0], id="repetition-counts-the-prompt"),
        pytest.param({"presence_penalty": 0.5}, [0, 0], [3.5, 3.0, -1.0], id="presence-counts-the-output-once"),
        pytest.param({"frequency_penalty": 0.5}, [0, 0], [3.0, 3.0, -1.0], id="frequency-counts-each-time"),
        pytest.param({"logit_bias": ((1, 2.5), (2, -1.0))}, [0], [4.0, 5.5, -2.0], id="bias"),
        pytest.param(
            {"logit_bias": ((2, 3.0),), "repetition_penalty": 2.0, "presence_penalty": 0.25},
            [0],
            [1.75, 3.0, 1.0],
            id="bias-then-repetition-then-presence",
        ),
        pytest.param({"bad_words": ((0,),)}, [], [-torch.inf, 3.0, -1.0], id="a-bad-token"),
        pytest.param({"bad_words": ((2, 1),)}, [], [4.0, -torch.inf, -1.0], id="a-bad-word-begun-in-the-prompt"),
        pytest.param({"bad_words": ((2, 1),)}, [0], [4.0, 3.0, -1.0], id="a-bad-word-not-begun"),
        pytest.param({"bad_words": ((2, 2, 2, 1),)}, [], [4.0, 3.0, -1.0], id="a-bad-word-longer-than-the-text"),
        pytest.param(
            {"min_tokens": 2, "stop_ids": frozenset({1})}, [0], [4.0, -torch.inf, -1.0], id="too-early-to-end"
        ),
        pytest.param({"min_tokens": 2, "stop_ids": frozenset({1})}, [0, 0], [4.0, 3.0, -1.0], id="late-enough"),
    ],
)
def test_logits_are_changed_as_the_parameters_say(
    params: dict[str, Any], output: list[int], expected: list[float]
) -> None:
    """The prompt is token 2; seen through greedy choices between pairs of tokens held against each other."""
    logits = torch.tensor([[4.0, 3.0, -1.0]])
    choice = a_choice(*output, prompt=[2], **params)

    assert changed_by_bisection(logits, choice) == pytest.approx(expected, abs=1e-3)


def changed_by_bisection(logits: Tensor, choice: Choice) -> list[float]:
    """Each logit as `choose` sees it: what a new token, of which no parameter speaks, must have to be preferred."""
    seen = []
    for token in range(logits.shape[-1]):
        others = [other for other in range(logits.shape[-1]) if other != token]
        low, high = -64.0, 64.0
        while high - low > 1e-4:
            middle = (low + high) / 2
            row = torch.cat([logits[0], torch.tensor([middle])])
            row[others] = -1e9
            low, high = (low, middle) if the_token(row[None], choice) == len(row) - 1 else (middle, high)
        seen.append(-torch.inf if high <= -63.9 else high)
    return seen


def test_the_caller_keeps_its_logits() -> None:
    logits = some_logits(2)
    before = logits.clone()

    choose(logits, [a_choice(1, repetition_penalty=2.0, logit_bias=((3, 9.0),)), a_choice(temperature=1.0, top_k=3)])

    assert torch.equal(logits, before)
