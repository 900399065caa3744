"""A token depends on its row, its parameters, its seed and what stands before it, and on nothing else."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nemotron_runtime import SamplingParams, ThinkingBudget
from nemotron_runtime.filters import NARROW
from nemotron_runtime.sampler import Choice, choose
from tests.builders.choices import VOCABULARY, a_choice, drawn, some_logits, the_token, tokens_of

pytestmark = pytest.mark.unit

BUDGET = ThinkingBudget(start_id=1, end_id=2, newline_ids=frozenset({3, 4}), tokens=3, grace=4)
TOKENS = st.integers(0, VOCABULARY - 1)

PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 1e-6, 0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 5, 1000]),
    top_p=st.sampled_from([0.01, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
    seed=st.integers(0, 2**64 - 1),
    stop_ids=st.frozensets(TOKENS, max_size=3),
    min_tokens=st.sampled_from([0, 3, 100]),
    repetition_penalty=st.sampled_from([0.8, 1.0, 1.3]),
    presence_penalty=st.sampled_from([-0.5, 0.0, 0.5]),
    frequency_penalty=st.sampled_from([-0.5, 0.0, 0.5]),
    logit_bias=st.dictionaries(TOKENS, st.sampled_from([-5.0, 5.0]), max_size=3).map(lambda bias: (*bias.items(),)),
    bad_words=st.lists(st.lists(TOKENS, min_size=1, max_size=2).map(tuple), max_size=3).map(tuple),
    thinking=st.sampled_from([None, BUDGET]),
    logprobs=st.sampled_from([None, 0, 3]),
)


@st.composite
def some_choices(draw: st.DrawFn) -> Choice:
    tokens = draw(st.lists(TOKENS, min_size=1, max_size=12))
    return Choice(draw(PARAMS), tokens, draw(st.integers(1, len(tokens))))


@given(choices=st.lists(some_choices(), min_size=1, max_size=8), data=st.data())
def test_a_choice_is_the_same_in_any_batch(choices: list[Choice], data: st.DataObject) -> None:
    logits = some_logits(len(choices))
    order = data.draw(st.permutations(range(len(choices))))

    together = choose(logits, choices)

    assert [choose(logits[row, None], [choice])[0] for row, choice in enumerate(choices)] == together
    assert choose(logits[order], [choices[row] for row in order]) == [together[row] for row in order]


@pytest.mark.parametrize("top_p", [0.6, 0.999])
def test_a_choice_is_the_same_in_any_batch_of_a_large_vocabulary(top_p: float) -> None:
    """Rows that need a whole sort stand beside rows that don't."""
    logits = some_logits(6, vocabulary=3 * NARROW + 1) * torch.tensor([[0.1], [1.0], [3.0]] * 2)
    choices = [a_choice(temperature=1.0, top_p=top_p, seed=row, logprobs=3) for row in range(6)]

    assert [choose(logits[row, None], [choice])[0] for row, choice in enumerate(choices)] == choose(logits, choices)


def test_temperature_0_takes_the_largest_and_the_lower_index_of_two_equal_ones() -> None:
    logits = torch.zeros(1, VOCABULARY)
    logits[0, [30, 20]] = 5.0

    assert the_token(logits, a_choice()) == 20


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_another_position_or_seed_is_another_draw(seed: int) -> None:
    logits = torch.zeros(200, VOCABULARY)
    positions = [a_choice(*[5] * position, temperature=1.0, seed=seed) for position in range(200)]
    seeds = [a_choice(temperature=1.0, seed=seed + other) for other in range(200)]

    assert len({each.token for each in choose(logits, positions)}) > VOCABULARY // 2
    assert len({each.token for each in choose(logits, seeds)}) > VOCABULARY // 2


def chi_square_bound(cells: int) -> float:
    """Wilson and Hilferty's approximation, five standard deviations above the mean."""
    freedom = cells - 1
    return float(freedom * (1 - 2 / (9 * freedom) + 5 * (2 / (9 * freedom)) ** 0.5) ** 3)


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"temperature": 0.5}, id="cold"),
        pytest.param({"temperature": 1.0}, id="plain"),
        pytest.param({"temperature": 2.0}, id="hot"),
        pytest.param({"temperature": 1.0, "top_k": VOCABULARY}, id="through-the-filters"),
    ],
)
def test_draws_follow_the_softmax_of_the_logits(params: dict[str, Any]) -> None:
    logits, count = some_logits(1) / 3, 20_000
    expected = (logits[0].double() / params["temperature"]).softmax(-1) * count

    seen = drawn(logits, count, **params).bincount(minlength=VOCABULARY)

    assert ((seen - expected) ** 2 / expected).sum() < chi_square_bound(VOCABULARY)


def test_equal_logits_favour_no_token_along_the_positions_of_one_seed() -> None:
    count = 20_000
    choices = [Choice(SamplingParams(temperature=1.0, seed=7), range(position), 1) for position in range(1, count + 1)]

    tokens = tokens_of(torch.zeros(1, VOCABULARY), choices)

    expected = count / VOCABULARY
    assert ((tokens.bincount(minlength=VOCABULARY) - expected) ** 2 / expected).sum() < chi_square_bound(VOCABULARY)
    # neighbouring positions know nothing of each other
    pairs = (tokens[:-1] % 5 * 5 + tokens[1:] % 5).bincount(minlength=25)
    assert ((pairs - count / 25) ** 2 / (count / 25)).sum() < chi_square_bound(25)


def test_similar_logits_mostly_choose_the_same_token() -> None:
    """What makes a draft worth checking: the noise is the token's, so it is shared."""
    logits, count = some_logits(1) / 3, 2000
    guess = logits + 0.05 * some_logits(1, seed=1)

    agreed = (drawn(logits, count, temperature=1.0) == drawn(guess, count, temperature=1.0)).double().mean()

    overlap = logits.softmax(-1).minimum(guess.softmax(-1)).sum()
    # Independent draws would agree in about one of ten; a maximal coupling in `overlap`.
    assert agreed > 0.8 * overlap
