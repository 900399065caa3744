"""Log-probabilities are the model's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nemotron_runtime.sampler import choose
from tests.builders.choices import VOCABULARY, a_choice, some_logits

pytestmark = pytest.mark.unit


@given(st.sets(st.integers(0, VOCABULARY - 1), min_size=1), st.floats(0.1, 2.0), st.integers(0, 50))
def test_log_probabilities_are_those_of_the_logits_before_anything_changes_them(
    banned: set[int], temperature: float, seed: int
) -> None:
    logits = some_logits(1, seed)
    banned = set(sorted(banned)[: VOCABULARY - 1])
    choice = a_choice(
        temperature=temperature, bad_words=tuple((token,) for token in banned), repetition_penalty=2.0, logprobs=4
    )

    (chosen,) = choose(logits, [choice])

    expected = logits[0].double().log_softmax(-1)
    assert chosen.logprobs is not None
    assert chosen.logprobs.chosen == pytest.approx(expected[chosen.token].item())
    assert [token for token, _ in chosen.logprobs.likeliest] == expected.topk(4).indices.tolist()
    assert [value for _, value in chosen.logprobs.likeliest] == pytest.approx(expected.topk(4).values.tolist())


def test_the_lower_of_equally_likely_tokens_is_told_first() -> None:
    (chosen,) = choose(torch.zeros(1, 9), [a_choice(logprobs=3)])

    assert chosen.logprobs is not None
    assert [token for token, _ in chosen.logprobs.likeliest] == [0, 1, 2]


def test_who_asks_for_no_log_probabilities_gets_none() -> None:
    assert [each.logprobs for each in choose(some_logits(2), [a_choice(), a_choice(temperature=1.0)])] == [None, None]
