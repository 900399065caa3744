"""Quantised weights decode to the numbers that their formats define, code by code; broken scales are refused."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nemotron_api.errors import WeightsInvalid
from nemotron_runtime.quantised import E2M1, decode, fp8, nvfp4
from tests.builders.members import e2m1, e4m3

pytestmark = pytest.mark.unit

ONE = torch.tensor(1.0)
EVERY_BYTE = torch.arange(256, dtype=torch.uint8)
FINITE_SCALES = list(range(1, 0x7F))

POSITIVE = st.floats(2.0**-60, 2.0**60, width=32)


def as_e4m3(codes: Tensor) -> Tensor:
    return codes.to(torch.uint8).view(torch.float8_e4m3fn)


def test_every_e2m1_code_is_the_number_its_bits_say() -> None:
    assert [float(number) for number in E2M1] == [e2m1(code) for code in range(16)]


def test_every_e4m3_byte_is_the_number_its_bits_say() -> None:
    decoded = fp8(as_e4m3(EVERY_BYTE)[None], ONE)[0]

    np.testing.assert_array_equal(decoded.numpy(), [e4m3(code) for code in range(256)])


def test_the_first_of_two_numbers_is_in_the_low_bits() -> None:
    codes = torch.tensor([[0x71, *[0] * 7]], dtype=torch.uint8)

    decoded = nvfp4(codes, as_e4m3(torch.tensor([[0x38]])), ONE)

    assert decoded[0, :3].tolist() == [e2m1(1), e2m1(7), 0.0] == [0.5, 6.0, 0.0]


@given(data=st.data(), outputs=st.integers(1, 4), blocks=st.integers(1, 4), scale=POSITIVE)
def test_nvfp4_is_code_times_block_scale_times_tensor_scale(
    data: st.DataObject, outputs: int, blocks: int, scale: float
) -> None:
    codes = data.draw(st.lists(st.integers(0, 15), min_size=16 * outputs * blocks, max_size=16 * outputs * blocks))
    scales = data.draw(st.lists(st.sampled_from(FINITE_SCALES), min_size=outputs * blocks, max_size=outputs * blocks))
    pairs = torch.tensor(codes).reshape(outputs, blocks * 8, 2)
    packed = (pairs[..., 0] | pairs[..., 1] << 4).to(torch.uint8)

    decoded = nvfp4(packed, as_e4m3(torch.tensor(scales).reshape(outputs, blocks)), torch.tensor([scale]))

    # exact in FP64, and rounded once
    expected = [e2m1(code) * e4m3(scales[place // 16]) * scale for place, code in enumerate(codes)]
    assert decoded.flatten().tolist() == torch.tensor(expected).tolist()


@given(data=st.data(), scale=POSITIVE)
def test_numbers_on_the_grid_survive_the_round_trip(data: st.DataObject, scale: float) -> None:
    """What torch itself rounds to E4M3 comes back as it was rounded."""
    numbers = torch.tensor(data.draw(st.lists(st.floats(-448, 448, width=32), min_size=1, max_size=20)))
    rounded = numbers.to(torch.float8_e4m3fn)

    decoded = fp8(rounded[None], torch.tensor(scale))[0]

    assert torch.equal(decoded, rounded.float() * scale)


def test_scales_change_exactly_at_the_borders_of_blocks() -> None:
    codes = torch.full((1, 24), 0x22, dtype=torch.uint8)
    scales = as_e4m3(torch.tensor([[0x38, 0x40, 0x48]]))

    decoded = nvfp4(codes, scales, ONE)[0]

    assert decoded.tolist() == [1.0] * 16 + [2.0] * 16 + [4.0] * 16


def test_a_block_without_a_scale_is_zero() -> None:
    decoded = nvfp4(torch.full((1, 8), 0x77, dtype=torch.uint8), as_e4m3(torch.tensor([[0]])), ONE)

    assert decoded.tolist() == [[0.0] * 16]


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("stored_as", ["FP8", "NVFP4"])
def test_a_scale_that_cannot_be_is_refused_and_the_tensor_named(stored_as: str, scale: float) -> None:
    weights = {"FP8": as_e4m3(EVERY_BYTE[:16])[None], "NVFP4": EVERY_BYTE[None, :8]}
    scales = {"FP8": [torch.tensor(scale)], "NVFP4": [as_e4m3(torch.tensor([[0x38]])), torch.tensor(scale)]}

    with pytest.raises(WeightsInvalid, match=f"the scale of tensor lm_head.weight is {scale}"):
        decode("lm_head.weight", stored_as, weights[stored_as], scales[stored_as])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stored_as", "weight", "scales"),
    [
        pytest.param("FP8", as_e4m3(torch.tensor([[0x38, 0x7F]])), [ONE], id="a-weight-that-is-no-number"),
        pytest.param("FP8", as_e4m3(torch.tensor([[0x7E]])), [torch.tensor(1e38)], id="beyond-fp32"),
        pytest.param("NVFP4", EVERY_BYTE[None, :8], [as_e4m3(torch.tensor([[0x7F]])), ONE], id="no-block-scale"),
    ],
)
def test_numbers_that_are_none_are_refused_and_the_tensor_named(
    stored_as: str, weight: Tensor, scales: list[Tensor]
) -> None:
    with pytest.raises(WeightsInvalid, match=r"tensor lm_head.weight decodes from .* not finite"):
        decode("lm_head.weight", stored_as, weight, scales)  # type: ignore[arg-type]
