"""A token depends on its row, its parameters, its seed and its position, and on nothing else."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nemotron_runtime import SamplingParams
from nemotron_runtime.sampler import Draw, sample

pytestmark = pytest.mark.unit

VOCABULARY = 50

PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 1e-6, 0.3, 1.0, 2.0]),
    top_k=st.sampled_from([0, 1, 5, 1000]),
    top_p=st.sampled_from([0.01, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 2**64 - 1),
)
DRAWS = st.builds(Draw, PARAMS, st.integers(1, 4096))


def some_logits(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3


def drawn(logits: Tensor, count: int, **params: float) -> Tensor:
    """Tokens of `count` draws from one row, with the seeds 0, 1, 2 …"""
    draws = [Draw(SamplingParams(seed=seed, **params), 9) for seed in range(count)]  # type: ignore[arg-type]
    return torch.tensor(sample(logits.expand(count, -1), draws))


@given(draws=st.lists(DRAWS, min_size=1, max_size=8), data=st.data())
def test_a_choice_is_the_same_in_any_batch(draws: list[Draw], data: st.DataObject) -> None:
    logits = some_logits(len(draws))
    order = data.draw(st.permutations(range(len(draws))))

    together = sample(logits, draws)

    assert [sample(logits[row, None], [draw])[0] for row, draw in enumerate(draws)] == together
    assert sample(logits[order], [draws[row] for row in order]) == [together[row] for row in order]


def test_temperature_0_takes_the_largest_and_the_lower_index_of_two_equal_ones() -> None:
    logits = torch.zeros(1, VOCABULARY)
    logits[0, [30, 20]] = 5.0

    assert sample(logits, [Draw(SamplingParams(), 1)]) == [20]


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_another_position_or_seed_is_another_draw(seed: int) -> None:
    logits = torch.zeros(200, VOCABULARY)
    positions = [Draw(SamplingParams(temperature=1.0, seed=seed), position) for position in range(200)]
    seeds = [Draw(SamplingParams(temperature=1.0, seed=seed + other), 0) for other in range(200)]

    assert len(set(sample(logits, positions))) > VOCABULARY // 2
    assert len(set(sample(logits, seeds))) > VOCABULARY // 2


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax_of_the_logits(temperature: float) -> None:
    logits, count = some_logits(1), 20_000
    expected = (logits[0].double() / temperature).softmax(-1)

    seen = drawn(logits, count, temperature=temperature).bincount(minlength=VOCABULARY) / count

    # five standard deviations of a binomial share
    assert ((seen - expected).abs() <= 5 * (expected * (1 - expected) / count).sqrt() + 1 / count).all()


@pytest.mark.parametrize("top_k", [1, 2, 7])
def test_top_k_draws_exactly_the_likeliest(top_k: int) -> None:
    logits = some_logits(1) / 10

    assert set(drawn(logits, 500, temperature=1.0, top_k=top_k).tolist()) == set(logits[0].topk(top_k).indices.tolist())


@pytest.mark.parametrize(("top_p", "kept"), [(0.01, 1), (0.49, 1), (0.51, 2), (0.71, 3), (0.91, 4), (1.0, 4)])
def test_top_p_keeps_the_fewest_tokens_that_hold_the_share(top_p: float, kept: int) -> None:
    logits = torch.tensor([[0.1, 0.5, 0.2, 0.2]]).double().log()
    likeliest_first = [1, 2, 3, 0]

    # of the two equal ones the lower index counts as likelier
    assert set(drawn(logits, 500, temperature=1.0, top_p=top_p).tolist()) == set(likeliest_first[:kept])


def test_top_p_counts_the_share_among_the_top_k() -> None:
    logits = torch.tensor([[0.4, 0.4, 0.2]]).double().log()

    # of the two that top_k leaves, the first alone holds half
    assert set(drawn(logits, 200, temperature=1.0, top_k=2, top_p=0.45).tolist()) == {0}


@given(draw=DRAWS, exponent=st.integers(-30, 30))
def test_a_token_is_always_one_the_filters_allow(draw: Draw, exponent: int) -> None:
    logits = some_logits(1) * math.ldexp(1.0, exponent)

    (token,) = sample(logits, [draw])

    allowed = logits[0].sort(descending=True, stable=True).indices[: draw.params.top_k or VOCABULARY]
    assert token in allowed.tolist()
