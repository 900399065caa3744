"""min_p, top_k and top_p leave exactly the tokens they speak of."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nemotron_runtime import SamplingParams
from nemotron_runtime.filters import NARROW, likeliest
from tests.builders.choices import drawn, some_logits

pytestmark = pytest.mark.unit


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


@pytest.mark.parametrize(("min_p", "kept"), [(0.19, [0, 1, 2, 3]), (0.3, [1, 2, 3]), (0.5, [1]), (1.0, [1])])
def test_min_p_keeps_tokens_by_their_share_of_the_likeliest(min_p: float, kept: list[int]) -> None:
    logits = torch.tensor([[0.1, 0.5, 0.2, 0.2]]).double().log()

    assert set(drawn(logits, 500, temperature=1.0, min_p=min_p).tolist()) == set(kept)


def test_top_p_counts_the_share_among_the_top_k() -> None:
    logits = torch.tensor([[0.4, 0.4, 0.2]]).double().log()

    # of the two that top_k leaves, the first alone holds half
    assert set(drawn(logits, 200, temperature=1.0, top_k=2, top_p=0.45).tolist()) == {0}


def test_top_p_counts_the_share_of_what_min_p_leaves() -> None:
    logits = torch.tensor([[0.4, 0.4, 0.2]]).double().log()

    assert set(drawn(logits, 200, temperature=1.0, min_p=0.6, top_p=0.45).tolist()) == {0}


def filtered(logits: Tensor, params: SamplingParams) -> set[int]:
    """What the filters leave, token by token in the order of likelihood."""
    shares = (logits.double() / params.temperature).softmax(-1).tolist()
    order = sorted(range(len(shares)), key=lambda token: (-shares[token], token))
    order = [token for token in order if shares[token] >= params.min_p * shares[order[0]]]
    order = order[: params.top_k or len(order)]
    whole, before, kept = sum(shares[token] for token in order), 0.0, set[int]()
    for token in order:
        if kept and params.top_p < 1 and before >= params.top_p * whole:
            break
        kept.add(token)
        before += shares[token]
    return kept


@settings(max_examples=40)
@given(
    rounding=st.sampled_from([0.1, 1.0]),
    spread=st.sampled_from([0.1, 1.0, 4.0]),
    top_k=st.sampled_from([0, 3, NARROW - 1, NARROW, 2 * NARROW]),
    top_p=st.sampled_from([0.3217, 0.9173, 0.9993, 1.0]),
    min_p=st.sampled_from([0.0, 0.0013, 0.2171]),
    seed=st.integers(0, 100),
)
def test_of_a_large_vocabulary_exactly_what_the_filters_speak_of_is_left(
    rounding: float, spread: float, top_k: int, top_p: float, min_p: float, seed: int
) -> None:
    # Rounded logits are full of equal ones, at the edges of the filters, too.
    logits = (some_logits(1, seed, 2 * NARROW + 5) * spread / 3 / rounding).round() * rounding
    scaled = logits.double() - logits.max()
    params = SamplingParams(temperature=1.0, top_k=top_k, top_p=top_p, min_p=min_p)

    ((rows, ids, left),) = likeliest(scaled, [params])

    assert rows == [0]
    assert set(ids[left.isfinite()].tolist()) == filtered(logits[0], params)
    assert left[0, 0] == 0


def test_a_token_beyond_the_precision_of_sums_is_left_without_top_p() -> None:
    scaled = torch.tensor([[0.0, -1.0, -60.0, -70.0]]).double()

    ((_, ids, left),) = likeliest(scaled, [SamplingParams(temperature=1.0, top_k=3)])

    assert ids[left.isfinite()].tolist() == [0, 1, 2]
