"""Greedy FP32 tokens equal those of transformers (tier E2), whatever the blocks and whatever else is in the batch."""

from pathlib import Path
from typing import Any

import pytest
import torch

from nemotron_runtime import SamplingParams, open_engine, pack
from nemotron_runtime.tails import MOST_TAPS
from tests.builders.checkpoints import TINY, a_checkpoint, an_oracle, oracle_logits
from tests.builders.exactness import CLOSE_CALLS_PER_TOKEN, close_calls, unexpected_tokens
from tests.builders.numbers import error
from tests.builders.oracle import fp64_logits
from tests.builders.streams import generate

pytestmark = pytest.mark.contract

LENGTHS = (1, 2, 3, 15, 16, 17, 48, 270)
"""The last one takes two chunks, beside the others' decodes."""
NEW_TOKENS = 40
TRAINED = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"

MODELS = [
    pytest.param({}, id="all-four-kinds-of-block"),
    pytest.param({"hybrid_override_pattern": "MMM"}, id="mamba-alone"),
    pytest.param({"hybrid_override_pattern": "**"}, id="attention-alone"),
    pytest.param({"hybrid_override_pattern": "EE*"}, id="experts-first"),
    pytest.param({"hybrid_override_pattern": "M-M*-M-"}, id="dense"),
    pytest.param({"moe_latent_size": None}, id="experts-at-full-width"),
    pytest.param({"n_group": 4, "topk_group": 2}, id="routing-limited-to-groups"),
    pytest.param({"norm_topk_prob": False}, id="weights-not-normalised"),
    pytest.param({"use_bias": True, "mlp_bias": True}, id="with-biases"),
    pytest.param({"use_conv_bias": False}, id="convolution-without-bias"),
    pytest.param({"num_key_value_heads": 6, "n_groups": 6}, id="a-head-of-its-own-for-everyone"),
    pytest.param({"num_key_value_heads": 1, "n_groups": 1}, id="one-head-for-all"),
    pytest.param({"conv_kernel": 2, "mamba_head_dim": 80, "chunk_size": 128}, id="head-dim-80"),
    pytest.param({"conv_kernel": MOST_TAPS + 1}, id="as-many-taps-as-a-ring-keeps"),
    pytest.param({"num_experts_per_tok": 8}, id="every-expert"),
    pytest.param({"dt_shift": -9.0}, id="dt-below-the-clamp-of-transformers"),
]


def some_prompts(vocabulary: int) -> list[list[int]]:
    return [torch.randint(vocabulary, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in LENGTHS]


def served_together(checkpoint: Path, out: Path, prompts: list[list[int]], new_tokens: int) -> list[list[int]]:
    """Answers to prompts of which five run at a time, so that they come and go beside each other."""
    pack(checkpoint, out, dtype="FP32", max_batch=5, max_sequence_tokens=max(LENGTHS) + new_tokens)
    engine = open_engine(out, threads=1)
    answers = generate(engine, prompts, SamplingParams(max_tokens=new_tokens, ignore_eos=True))
    engine.close()
    return answers


@pytest.mark.parametrize("changes", MODELS)
def test_tokens_equal_transformers_and_the_fp64_recurrence(changes: dict[str, Any], tmp_path: Path) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint", **changes)
    prompts = some_prompts(TINY["vocab_size"])

    answers = served_together(checkpoint, tmp_path / "engine", prompts, NEW_TOKENS)

    oracle = an_oracle(checkpoint)
    differing = 0
    for prompt, answer in zip(prompts, answers, strict=True):
        new = slice(len(prompt) - 1, -1)
        logits, exact = oracle_logits(oracle, prompt + answer)[new], fp64_logits(checkpoint, prompt + answer)[new]
        assert len(answer) == NEW_TOKENS
        assert unexpected_tokens(logits, answer) == []
        assert unexpected_tokens(exact, answer) == []
        differing += close_calls(exact, answer)
    assert differing <= CLOSE_CALLS_PER_TOKEN * NEW_TOKENS * len(prompts)


def test_the_two_references_agree_and_the_clamp_of_transformers_does_not(tmp_path: Path) -> None:
    # given a model whose steps are smaller than transformers' lower clamp on dt
    checkpoint = a_checkpoint(tmp_path, dt_shift=-9.0)
    tokens = some_prompts(TINY["vocab_size"])[-1]
    exact = fp64_logits(checkpoint, tokens)

    corrected, clamped = an_oracle(checkpoint), an_oracle(checkpoint)
    for layer in clamped.model.layers:
        layer.mixer.time_step_limit = (clamped.config.time_step_min, float("inf"))

    assert error(oracle_logits(corrected, tokens), exact) < 1e-5
    assert error(oracle_logits(clamped, tokens), exact) > 1e-3


def test_tokens_of_the_trained_model_equal_transformers(tmp_path: Path) -> None:
    # given pieces of a text, as bytes after the 16 special tokens
    text = (TRAINED / "chat_template.jinja").read_bytes()
    prompts = [[16 + byte for byte in text[n : 2 * n]] for n in LENGTHS]

    answers = served_together(TRAINED, tmp_path, prompts, 200)

    oracle = an_oracle(TRAINED)
    for prompt, answer in zip(prompts, answers, strict=True):
        assert unexpected_tokens(oracle_logits(oracle, prompt + answer)[len(prompt) - 1 : -1], answer) == []
