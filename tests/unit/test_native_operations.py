"""Single operations of the library give what torch gives, over odd sizes, and touch nothing but their results."""

import ctypes

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nemotron_kernels.native.interface import BF16, FP32, LinearStruct, ModelStruct
from nemotron_kernels.native.library import load
from nemotron_kernels.router import router
from tests.builders.native import HERE
from tests.builders.numbers import SEEDS, error, random

pytestmark = pytest.mark.unit

TYPES = {torch.float32: FP32, torch.bfloat16: BF16}
CANARY = 64
"""Numbers before and after a result, which must stay what they were: NaN."""

SIZES = st.integers(1, 40)

FUNCTIONS = (torch.exp, torch.sigmoid, torch.nn.functional.silu)


class Guarded:
    """Room for a result that is full of NaN, amid more of it."""

    def __init__(self, *shape: int) -> None:
        self._shape, self._size = shape, int(torch.Size(shape).numel())
        self._all = torch.full((self._size + 2 * CANARY,), torch.nan)

    @property
    def address(self) -> int:
        return self._all.data_ptr() + CANARY * self._all.itemsize

    def result(self) -> Tensor:
        assert self._all[:CANARY].isnan().all()
        assert self._all[-CANARY:].isnan().all()
        return self._all[CANARY:-CANARY].view(self._shape)


def linear(isa: int, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out = Guarded(len(x), len(weight))
    struct = LinearStruct(weight.data_ptr(), None if bias is None else bias.data_ptr(), *weight.shape)
    assert load().nk_linear(isa, TYPES[weight.dtype], ctypes.byref(struct), x.data_ptr(), len(x), out.address) == 0
    return out.result()


def rounded(x: Tensor, weight: Tensor) -> Tensor:
    """Inputs as products in the weight's type take them, at least: they may be rounded to it."""
    return x.to(weight.dtype).double()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("isa", HERE)
@given(
    rows=st.integers(1, 40), outputs=st.integers(1, 75), inputs=st.integers(1, 140), seed=SEEDS, biased=st.booleans()
)
@settings(max_examples=60)
def test_a_product_is_torchs(
    isa: int, dtype: torch.dtype, rows: int, outputs: int, inputs: int, seed: int, biased: bool
) -> None:
    x, weight = random(rows, inputs, seed=seed), random(outputs, inputs, seed=seed + 1, dtype=dtype)
    bias = random(outputs, seed=seed + 2) if biased else None

    found, columns, of_bias = linear(isa, x, weight, bias), weight.double().T, torch.zeros(1) if bias is None else bias

    # What each result may be off by is a share of what was added up for it.
    most = x.abs().double() @ columns.abs() + of_bias.abs()
    off = [(found - (each @ columns + of_bias)).abs() / most for each in (x.double(), rounded(x, weight))]
    assert min(float(each.max()) for each in off) < 1e-6


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("isa", HERE)
@given(rows=SIZES, inputs=st.sampled_from([1, 3, 17, 64, 100]), seed=SEEDS)
@settings(max_examples=30)
def test_a_row_of_a_product_has_the_same_bits_alone_and_in_any_company(
    isa: int, dtype: torch.dtype, rows: int, inputs: int, seed: int
) -> None:
    x, weight = random(rows, inputs, seed=seed), random(43, inputs, seed=seed + 1, dtype=dtype)

    together = linear(isa, x, weight, None)

    for row in range(rows):
        assert torch.equal(linear(isa, x[row : row + 1], weight, None)[0], together[row])
    part = linear(isa, x, weight[5:18].contiguous(), None)
    assert torch.equal(part, together[:, 5:18])


@pytest.mark.parametrize("isa", HERE)
@given(rows=st.integers(1, 5), width=st.integers(1, 70), seed=SEEDS)
def test_a_norm_is_the_references(isa: int, rows: int, width: int, seed: int) -> None:
    x, weight, out = random(rows, width, seed=seed), random(width, seed=seed + 1), Guarded(rows, width)

    load().nk_rms_norm(isa, x.data_ptr(), weight.data_ptr(), rows, width, 1e-5, out.address)

    wide = x.double()
    expected = wide * (wide.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight.double()
    assert error(out.result(), expected) < 1e-6


@pytest.mark.parametrize("which", range(len(FUNCTIONS)), ids=["exp", "sigmoid", "silu"])
@pytest.mark.parametrize("isa", HERE)
def test_functions_are_right_to_a_few_units_in_the_last_place(isa: int, which: int) -> None:
    ends = torch.tensor([0.0, -0.0, 88.7, -87.3, -104.0, 1e-30, -1e-30])
    x = torch.cat([torch.linspace(-87, 88, 10_001), ends])
    out = Guarded(len(x))

    load().nk_function(isa, which, x.data_ptr(), len(x), out.address)

    expected = FUNCTIONS[which](x.double())
    assert ((out.result() - expected).abs() <= 4e-7 * expected.abs() + 1e-37).all()


@pytest.mark.parametrize("isa", HERE)
def test_functions_go_on_to_infinity_and_keep_what_is_no_number(isa: int) -> None:
    x = torch.tensor([torch.inf, -torch.inf, torch.nan, 200.0, -200.0])
    exp, sigmoid, silu = Guarded(5), Guarded(5), Guarded(5)

    for which, out in enumerate((exp, sigmoid, silu)):
        load().nk_function(isa, which, x.data_ptr(), len(x), out.address)

    assert exp.result().isnan().tolist() == [False, False, True, False, False]
    assert exp.result()[[0, 1, 3, 4]].tolist() == [torch.inf, 0.0, torch.inf, 0.0]
    assert sigmoid.result()[[0, 1, 3, 4]].tolist() == [1.0, 0.0, 1.0, 0.0]
    assert silu.result()[[0, 3]].tolist() == [torch.inf, 200.0]
    assert silu.result()[2].isnan()


@pytest.mark.parametrize("isa", HERE)
@given(
    rows=st.integers(1, 4),
    groups=st.sampled_from([(1, 1), (2, 1), (4, 2), (6, 3)]),
    members=st.integers(1, 9),
    seed=SEEDS,
    ties=st.booleans(),
    normalize=st.booleans(),
    data=st.data(),
)
def test_experts_are_those_of_the_reference_ties_included(
    isa: int,
    rows: int,
    groups: tuple[int, int],
    members: int,
    seed: int,
    ties: bool,
    normalize: bool,
    data: st.DataObject,
) -> None:
    experts = groups[0] * members
    chosen = data.draw(st.integers(1, groups[1] * members))
    scores, bias = random(rows, experts, seed=seed), random(experts, seed=seed + 1)
    if ties:
        scores, bias = scores.round(), bias.round()
    model = ModelStruct(
        experts=experts, chosen=chosen, router_groups=groups[0], router_top_groups=groups[1],
        normalize=int(normalize), router_scale=2.5,
    )  # fmt: skip
    ids, weights = torch.full((rows, chosen), -1), Guarded(rows, chosen)

    load().nk_route(isa, ctypes.byref(model), scores.data_ptr(), bias.data_ptr(), rows, ids.data_ptr(), weights.address)

    # The identity as the gate: what goes in are the scores; its sigmoid may differ in the last bit, so ties are exact.
    expected_ids, expected = router(
        scores,
        torch.eye(experts),
        bias,
        k=chosen,
        groups=groups[0],
        top_groups=groups[1],
        scale=2.5,
        normalize=normalize,
    )
    assert ids.tolist() == expected_ids.tolist()
    assert error(weights.result(), expected) < 2e-6
