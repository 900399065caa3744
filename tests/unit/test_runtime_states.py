"""What is kept in narrow types is rounded by seed and place alone, right on average, and never quietly wrong."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nemotron_api.hybrid_config import read_config
from nemotron_runtime import SamplingParams, open_engine, pack
from nemotron_runtime.config import load_config
from nemotron_runtime.memory import Memory
from nemotron_runtime.parking import InFiles
from nemotron_runtime.states import FORMATS, Chance, Format, States
from tests.builders.checkpoints import a_checkpoint
from tests.builders.members import Tensors, rewrite
from tests.builders.numbers import SEEDS, error, random
from tests.builders.streams import generate, start

pytestmark = pytest.mark.unit

SLOTS, SHAPE = 6, (3, 10, 12)
ROUNDED = {name: form for name, form in FORMATS.items() if form.stored}
FARTHEST = {"FP16": 2.0**-10, "INT8": 1 / 127}
"""One step, as a share of the largest number."""

PROMPT = [*range(5, 60), *range(5, 20)]


def empty(form: Format, layer: int = 0, shape: tuple[int, int, int] = SHAPE, slots: int = SLOTS) -> States:
    return States(form, layer, tuple(torch.zeros(slots, *part, dtype=dtype) for part, dtype in form.parts(*shape)))


def chance(*seeds: int, position: int = 16) -> Chance:
    return Chance(torch.tensor(seeds), torch.full((len(seeds),), position))


def ids(*numbers: int) -> Tensor:
    return torch.tensor(numbers)


def test_fp32_states_are_read_where_they_lie_and_come_back_as_they_were() -> None:
    states, values = empty(FORMATS["FP32"]), random(2, *SHAPE, seed=1)

    states.write(ids(4, 1), values, chance(1, 2))

    assert torch.equal(states.read(ids(4, 1)), values)
    assert states.read(slice(0, SLOTS)).data_ptr() == states.parts[0].data_ptr()
    assert states.rounded(values, chance(1, 2)) is values


@pytest.mark.parametrize("name", ROUNDED)
@given(seed=SEEDS, size=st.floats(1e-3, 1e3))
def test_what_is_read_is_less_than_a_step_away(name: Any, seed: int, size: float) -> None:
    states, values = empty(ROUNDED[name]), random(2, *SHAPE, seed=seed) * size

    states.write(ids(5, 0), values, chance(seed, 3))

    assert error(states.read(ids(5, 0)), values) < FARTHEST[name] * 1.001
    assert torch.equal(states.read(ids(5, 0)), states.rounded(values, chance(seed, 3)))
    assert not states.read(slice(1, 5)).any()


@pytest.mark.parametrize("name", ROUNDED)
@given(seed=st.integers(-(2**63), 2**63 - 1), position=st.integers(0, 2**20), slot=st.integers(0, SLOTS - 1))
def test_slot_and_company_change_no_bit_of_what_is_kept(name: Any, seed: int, position: int, slot: int) -> None:
    values = random(3, *SHAPE, seed=7)
    alone, together = empty(ROUNDED[name], layer=2), empty(ROUNDED[name], layer=2)
    others = [other for other in range(SLOTS) if other != slot][:2]

    alone.write(ids(0), values[:1], Chance(ids(seed), ids(position)))
    together.write(ids(*others, slot), values[[2, 1, 0]], Chance(ids(1, 2, seed), ids(16, 32, position)))

    assert torch.equal(together.read(ids(slot)), alone.read(ids(0)))


@pytest.mark.parametrize("name", ROUNDED)
def test_another_seed_position_or_layer_rounds_otherwise(name: Any) -> None:
    values = random(1, *SHAPE, seed=7)
    kept = [
        empty(ROUNDED[name], layer).rounded(values, chance(seed, position=position))
        for seed, position, layer in ((1, 16, 0), (2, 16, 0), (1, 32, 0), (1, 16, 1))
    ]

    for other in kept[1:]:
        # by chance half of the elements differ, more or less
        assert (other != kept[0]).float().mean() > 0.2


@pytest.mark.parametrize("name", ROUNDED)
def test_states_are_right_on_average(name: Any) -> None:
    draws, values = 10_000, random(1, 1, 2, 64, seed=3)
    states = empty(ROUNDED[name], shape=(1, 2, 64), slots=1)

    kept = states.rounded(values.expand(draws, -1, -1, -1), Chance(torch.arange(draws), torch.full((draws,), 16)))

    # six standard deviations of a mean, for 128 of them; what is an FP16 number already has none
    deviations = kept.double().std(0) / draws**0.5
    assert ((kept.double().mean(0) - values[0]).abs() <= 6 * deviations + 1e-7).all()
    assert (kept != values).float().mean() > 0.9


def fading(form: Format, per_commit: Tensor, commits: int) -> Tensor:
    """States of heads that get nothing new and lose a share at each commit."""
    states = empty(form, shape=(len(per_commit), 8, 16), slots=1)
    states.write(ids(0), random(1, len(per_commit), 8, 16, seed=1), chance(9, position=0))
    for commit in range(1, commits + 1):
        faded = states.read(slice(0, 1)) * per_commit[:, None, None]
        states.write(ids(0), faded, chance(9, position=16 * commit))
    return states.read(slice(0, 1))


def rms(states: Tensor) -> Tensor:
    """(h) root mean squares of (b, h, p, n)."""
    return states.square().mean((0, 2, 3)).sqrt()


def test_states_rounded_by_chance_do_not_drift_where_the_nearest_number_does() -> None:
    """2,000 tokens of heads with long memories: a step of FP16 is more than they lose from anchor to anchor."""
    lifetimes, commits = torch.tensor([1e3, 1e4, 4e4, 1e5]), 2000 // 16
    per_commit = torch.exp(-16 / lifetimes)
    nearest = replace(FORMATS["FP16"], stored=lambda values, u: (values.half(),))
    # Each commit is off by half a step at most in root mean square, and errors of either sign add up as a walk.
    bound = FARTHEST["FP16"] / 2 * commits**0.5

    exact = fading(FORMATS["FP32"], per_commit, commits)
    by_chance, by_nearest = (
        rms(fading(form, per_commit, commits) - exact) / rms(exact) for form in (FORMATS["FP16"], nearest)
    )

    for lifetime, chosen, near in zip(lifetimes.tolist(), by_chance.tolist(), by_nearest.tolist(), strict=True):
        print(f"lifetime of {lifetime:6.0f} tokens: by chance {chosen:.1e}, nearest {near:.1e}; bound {bound:.1e}")
    assert by_chance.max() < bound
    assert by_nearest.max() > 2 * bound


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: Any) -> Path:
    return a_checkpoint(tmp_path_factory.mktemp("states") / "checkpoint")


def an_engine(checkpoint: Path, out: Path, **formats: Any) -> Path:
    pack(checkpoint, out, dtype="FP32", max_batch=2, max_sequence_tokens=160, **formats)
    return out


@pytest.mark.parametrize("state_dtype", FORMATS)
def test_a_cleared_slot_is_exactly_zero(checkpoint: Path, tmp_path: Path, state_dtype: Any) -> None:
    directory = an_engine(checkpoint, tmp_path, state_dtype=state_dtype)
    memory = Memory(read_config(directory), load_config(directory))
    for ring in memory.rings:
        ring.states.write(ids(0, 1), random(2, *ring.states.read(slice(0, 1)).shape[1:], seed=1), chance(1, 2))
    memory.copy_slot(1, 2)
    content = memory.read(1, [])

    memory.clear_slot(1)

    assert not any(ring.states.read(ids(1)).any() for ring in memory.rings)
    assert all(ring.states.read(ids(2)).any() for ring in memory.rings)
    memory.write(1, [], content)
    assert all(torch.equal(ring.states.read(ids(1)), ring.states.read(ids(2))) for ring in memory.rings)


@pytest.mark.parametrize("state_dtype", ROUNDED)
def test_narrow_sessions_are_parked_in_files_bit_for_bit(checkpoint: Path, tmp_path: Path, state_dtype: Any) -> None:
    directory = an_engine(checkpoint, tmp_path / "engine", state_dtype=state_dtype, kv_dtype="FP8")
    memory = Memory(read_config(directory), load_config(directory))
    memory.rings[0].states.write(ids(0), random(1, *memory.rings[0].states.read(ids(0)).shape[1:], seed=1), chance(3))
    memory.write_kv(0, ids(16, 17), *(random(2, *memory.keys.shape[3:], seed=seed) for seed in (1, 2)))
    content = memory.read(0, [1])

    kept = InFiles(tmp_path / "parked").keep(content)
    assert kept is not None
    parked = kept.content()

    assert [part.dtype for part in parked] == [part.dtype for part in content]
    assert all(torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(parked, content, strict=True))
    assert any(part.any() for part in content[-2:])


@pytest.mark.parametrize("state_dtype", FORMATS)
def test_a_rounded_state_is_reused_by_requests_of_its_seed_alone(
    checkpoint: Path, tmp_path: Path, state_dtype: Any
) -> None:
    engine = open_engine(an_engine(checkpoint, tmp_path, state_dtype=state_dtype), threads=1)

    hits = []
    for seed in (1, 2, 1):
        generate(engine, [PROMPT], SamplingParams(max_tokens=3, seed=seed))
        hits.append(engine.stats().prefix_hit_tokens)
    engine.close()

    after_first, after_second, after_third = hits
    assert after_first == 0
    assert (after_second > 0) == (state_dtype == "FP32")
    assert after_third > after_second


def with_huge_inputs(tensors: Tensors) -> Tensors:
    """x and B a thousand times as large each, so that states pass what FP16 holds, and FP32 by far does not."""
    name = next(name for name in tensors if name.endswith("layers.0.mixer.in_proj.weight"))
    return {**tensors, name: tensors[name] * 1000}


@pytest.mark.parametrize(("state_dtype", "reason"), [("FP32", "length"), ("INT8", "length"), ("FP16", "error")])
def test_a_state_too_large_for_its_format_ends_the_request_and_not_the_engine(
    tmp_path: Path, state_dtype: Any, reason: str
) -> None:
    checkpoint = rewrite(a_checkpoint(tmp_path / "checkpoint"), with_huge_inputs)
    engine = open_engine(an_engine(checkpoint, tmp_path / "engine", state_dtype=state_dtype), threads=1)
    sampling = SamplingParams(max_tokens=20, ignore_eos=True)

    long, short = start(engine, PROMPT, sampling), start(engine, [5], replace(sampling, max_tokens=3))

    assert long.finish().finish_reason == reason
    assert short.finish().finish_reason == "length"
    if reason == "error":
        assert "pack the engine with FP32 states" in str(long.finish().error)
    engine.close()
