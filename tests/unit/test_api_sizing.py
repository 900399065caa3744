"""Sizes agree with what is published and with what the runtime takes; the solver picks as NVIDIA recommends."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemotron_api.catalogue import MEMBERS, Member, member
from nemotron_api.errors import InvalidSpec
from nemotron_api.formats import WeightFormat, elements, weight_bytes
from nemotron_api.gpus import GPUS, Gpu
from nemotron_api.sizing import Memory, Setting, memory, problem
from nemotron_api.solver import Ask, preference, solve

pytestmark = pytest.mark.unit

H100, H200 = GPUS["H100-SXM"], GPUS["H200-SXM"]


@pytest.mark.parametrize("each", [each for each in MEMBERS.values() if each.elements], ids=lambda each: each.name)
def test_parameters_are_as_many_as_published(each: Member) -> None:
    assert elements(each.config) == each.elements


@pytest.mark.parametrize(
    ("name", "form", "gigabytes"),
    [
        ("nano", "BF16", 63.2),
        ("nano", "FP8", 32.7),
        ("nano", "NVFP4", 19.3),
        ("lightning", "BF16", 65.8),
        ("lightning", "W4A16", 21.2),
        ("super", "BF16", 247.2),
        ("super", "FP8", 128.3),
        ("super", "NVFP4", 79.0),
        ("ultra", "BF16", 1121.0),
        ("ultra", "NVFP4", 351.9),
        ("nano-4b", "BF16", 7.9),
        ("nano-4b", "FP8", 5.0),
        ("nano-2-9b", "BF16", 17.8),
        ("nano-2-12b", "BF16", 24.6),
        ("nemotron-h-8b", "BF16", 16.2),
        ("nemotron-h-47b", "BF16", 93.6),
        ("nemotron-h-56b", "BF16", 112.6),
    ],
)
def test_weights_take_what_the_published_recipes_leave(name: str, form: WeightFormat, gigabytes: float) -> None:
    assert weight_bytes(member(name).config, form) / 1e9 == pytest.approx(gigabytes, abs=0.06)


@pytest.mark.parametrize(
    ("name", "kv_token", "state_mib"),
    [("nano", 6144, 46.0), ("super", 8192, 160.0), ("ultra", 12288, 384.0), ("nano-4b", 16384, 78.75)],
)
def test_a_sequence_takes_a_constant_and_so_much_per_token(name: str, kv_token: int, state_mib: float) -> None:
    config = member(name).config
    wide, narrow = (memory(config, Setting("BF16", state=state)) for state in ("FP32", "FP16"))

    assert wide.kv_token == kv_token
    assert 2 * (wide.slot - narrow.slot) / 2**20 == pytest.approx(state_mib)


@pytest.mark.parametrize(
    ("gpu", "form", "state", "expected"),
    [
        pytest.param(H100, "BF16", "FP32", (188, 105, 52, 12, 1), id="h100-bf16"),
        pytest.param(H100, "FP8", "FP32", (783, 551, 328, 90, 12), id="h100-fp8"),
        pytest.param(H100, "FP8", "FP16", (1456, 816, 407, 95, 12), id="h100-fp8-half-states"),
        pytest.param(H200, "BF16", "FP32", (1202, 669, 332, 77, 10), id="h200-bf16"),
        pytest.param(H200, "FP8", "FP32", (1858, 1307, 779, 214, 29), id="h200-fp8"),
    ],
)
def test_as_many_sequences_fit_as_the_roofline_says(
    gpu: Gpu, form: WeightFormat, state: str, expected: tuple[int, ...]
) -> None:
    """Figures of `roofline.py memory` for Nano, which knows of no workspace."""
    setting = Setting(form, state=state, kv="BF16" if form == "BF16" else "FP8")  # type: ignore[arg-type]
    each = replace(memory(member("nano").config, setting), workspace=0)

    assert [each.sequences(gpu, tokens) for tokens in (1024, 8192, 24576, 131072, 1048576)] == list(expected)


@pytest.mark.parametrize(
    ("name", "sku", "form", "gpus"),
    [
        ("super", "H100-SXM", "BF16", 4),
        ("super", "B200", "BF16", 2),
        ("super", "H100-SXM", "FP8", 2),
        ("super", "B200", "NVFP4", 1),
        ("super", "H100-SXM", "NVFP4", 2),
        ("ultra", "B200", "NVFP4", 4),
        ("ultra", "GB200", "NVFP4", 4),
        ("ultra", "H100-SXM", "NVFP4", 8),
        ("lightning", "H100-SXM", None, 1),
    ],
)
def test_as_few_gpus_suffice_as_nvidia_recommends(name: str, sku: str, form: WeightFormat | None, gpus: int) -> None:
    """The deployment guide of TensorRT-LLM for Nemotron 3."""
    chosen = solve(member(name), GPUS[sku], Ask(8192, weights=form)).chosen

    assert chosen is not None
    assert chosen.setting.gpus == gpus


def test_lightning_is_served_from_four_bit_weights_on_one_h100() -> None:
    chosen = solve(member("lightning"), H100, Ask(1 << 20)).chosen

    assert chosen is not None
    assert (chosen.setting.weights, chosen.setting.gpus) == ("W4A16", 1)


asks = st.builds(
    Ask,
    context=st.integers(1, 1 << 21),
    sequences=st.integers(1, 300),
    state=st.sampled_from(["FP32", "FP16", "INT8"]),
    weights=st.none() | st.sampled_from(["BF16", "FP8", "NVFP4", "W4A16"]),
    gpus=st.none() | st.integers(1, 9),
)


@given(st.sampled_from(list(MEMBERS.values())), st.sampled_from(list(GPUS.values())), asks)
def test_what_is_chosen_holds_all_that_was_asked_and_nothing_smaller_does(each: Member, gpu: Gpu, ask: Ask) -> None:
    verdict = solve(each, gpu, ask)

    for candidate in verdict.candidates:
        used = candidate.memory.weights + candidate.memory.workspace
        used += ask.sequences * candidate.memory.of_sequence(ask.context)
        if candidate.fits:
            assert used <= gpu.memory_bytes
            assert candidate.sequences >= ask.sequences
            assert candidate.longest >= ask.context
            assert verdict.chosen
            assert verdict.chosen.setting.gpus <= candidate.setting.gpus
        else:
            assert candidate.refusal
    assert bool(verdict.chosen) == any(candidate.fits for candidate in verdict.candidates)
    assert verdict.why.endswith(".")


@given(st.sampled_from(list(MEMBERS.values())), st.sampled_from([1, 2, 4]), st.sampled_from(["BF16", "FP8", "W4A16"]))
def test_more_gpus_hold_less_each_and_not_less_in_all(each: Member, gpus: int, form: WeightFormat) -> None:
    alone, shared = (memory(each.config, Setting(form, count)) for count in (gpus, 2 * gpus))

    for of_one, of_more in zip(_parts(alone), _parts(shared), strict=True):
        assert of_more <= of_one <= 2 * of_more + 2


def _parts(of: Memory) -> tuple[int, ...]:
    return of.weights, of.slot, of.kv_token, of.workspace


@pytest.mark.parametrize("gpus", [3, 5, 16])
def test_layers_are_shared_only_where_heads_and_groups_can_be_divided(gpus: int) -> None:
    assert problem(member("super").config, gpus)
    assert not problem(member("super").config, 8)


def test_a_gpu_multiplies_what_it_prefers() -> None:
    for gpu in GPUS.values():
        first = preference(gpu)[0]
        assert gpu.has_fp4 or first != "NVFP4"
        assert gpu.has_fp8 or first != "FP8"


def test_a_model_is_found_by_any_of_its_names() -> None:
    assert member("Nemotron-3-Super") is member("super") is member("nemotron-3-super-120b-a12b")
    with pytest.raises(InvalidSpec, match="known are nemotron-3-nano-30b-a3b"):
        member("llama")


def test_the_reason_names_the_arithmetic_when_nothing_fits() -> None:
    why = solve(member("ultra"), GPUS["L40S"], Ask(8192)).why

    assert "351.9 GB of weights" in why
    assert "44.2 GB" in why
