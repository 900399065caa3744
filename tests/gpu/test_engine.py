"""An engine on the device: it speculates, samples as a CPU does, and times its steps."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nemotron_kernels.stochastic_rounding import to_half, uniform
from nemotron_runtime import SamplingParams, open_engine, pack
from nemotron_runtime.config import load_config
from nemotron_runtime.executor import open_executor
from nemotron_runtime.noise import gumbel
from nemotron_runtime.sampler import choose
from tests.builders.choices import a_choice, some_logits
from tests.builders.golden import NEW_TOKENS, TRAINED, goldens
from tests.builders.streams import generate

pytestmark = pytest.mark.gpu

SAMPLERS = [
    pytest.param({}, id="greedy"),
    pytest.param({"temperature": 0.7}, id="all-tokens"),
    pytest.param({"temperature": 1.0, "top_k": 9, "top_p": 0.8, "min_p": 0.01}, id="filtered"),
    pytest.param({"repetition_penalty": 1.3, "presence_penalty": 0.4, "logit_bias": ((3, 2.0),)}, id="changed"),
    pytest.param({"temperature": 0.7, "logprobs": 3}, id="with-logprobs"),
]


def an_engine(directory: Path) -> Path:
    pack(TRAINED, directory, dtype="FP32", max_batch=4, max_sequence_tokens=320)
    return directory


def test_an_engine_that_drafts_answers_as_transformers_does(device: str, tmp_path: Path) -> None:
    expected = goldens()
    engine = open_engine(an_engine(tmp_path), device=device, drafts=True, kernels="torch")

    sampling = SamplingParams(max_tokens=NEW_TOKENS, ignore_eos=True)
    answers = generate(engine, [golden.prompt for golden in expected] * 3, sampling)
    engine.close()

    stats = engine.stats()
    assert answers == [golden.answer for golden in expected] * 3
    assert stats.accepted_tokens > 0
    assert stats.last_step_seconds > 0


def test_everything_an_engine_holds_is_on_the_device(device: str, tmp_path: Path) -> None:
    directory = an_engine(tmp_path)
    _, executor = open_executor(directory, load_config(directory), device=device, kernels="torch")

    memory = executor.memory
    assert {part.device.type for part in (*memory.stacks, memory.keys, memory.values)} == {torch.device(device).type}


@pytest.mark.parametrize("params", SAMPLERS)
def test_the_same_logits_give_the_same_tokens_as_on_a_cpu(params: dict[str, Any], device: str) -> None:
    logits = some_logits(200, vocabulary=3000)
    choices = [a_choice(5, 7, 7, seed=seed, **params) for seed in range(len(logits))]

    there, here = choose(logits.to(device), choices), choose(logits, choices)

    assert [each.token for each in there] == [each.token for each in here]


def test_noise_has_the_same_bits_as_on_a_cpu(device: str) -> None:
    keys, ids = torch.arange(50)[:, None] * 0x9E3779B97F4A7C1, torch.arange(20_000)

    assert torch.equal(gumbel(keys.to(device), ids.to(device)).cpu(), gumbel(keys, ids))


def test_states_are_rounded_to_the_same_halves_as_on_a_cpu(device: str) -> None:
    seeds, positions = torch.tensor([3, 2**40]), torch.tensor([16, 1 << 20])
    values = some_logits(2, vocabulary=5000)
    here = uniform(seeds, positions, 5, 5000)
    there = uniform(seeds.to(device), positions.to(device), 5, 5000)

    assert torch.equal(there.cpu(), here)
    assert torch.equal(to_half(values.to(device), there).cpu(), to_half(values, here))
