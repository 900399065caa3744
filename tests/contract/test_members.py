"""Every member of the family loads at reduced size, as it is published, and gives the tokens of transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from nemotron_runtime import SamplingParams, open_engine, pack
from tests.builders.checkpoints import TINY, a_checkpoint, an_oracle, oracle_logits
from tests.builders.engines import packed
from tests.builders.exactness import unexpected_tokens
from tests.builders.members import edit, in_shards, renamed, rewrite, with_mtp
from tests.builders.streams import generate

pytestmark = pytest.mark.contract

PROMPTS = [[5], [7, 8, 9, 10, 11], [3 + i % 50 for i in range(40)]]
TOKENS = 30

PUBLISHED_NAMES = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}


def as_nano(checkpoint: Path) -> None:
    """A pattern and a count of layers, instead of a list."""
    edit(checkpoint, layers_block_type=None, hybrid_override_pattern="MEMEM*EME", num_hidden_layers=9)


def as_lightning(checkpoint: Path) -> None:
    """Names as transformers has them in memory, a list of layers, drafts that no key describes."""
    with_mtp(checkpoint)
    rewrite(checkpoint, renamed("backbone.", "model."))
    letters = TINY["hybrid_override_pattern"].replace("-", "")
    names = [PUBLISHED_NAMES[letter] for letter in letters]
    edit(checkpoint, layers_block_type=names, num_hidden_layers=None, mtp_hybrid_override_pattern=None)


def as_dense(checkpoint: Path) -> None:
    edit(checkpoint, layers_block_type=None, hybrid_override_pattern="M-M-M-MM-M*-M-")


MEMBERS = [
    pytest.param({"hybrid_override_pattern": "MEMEM*EME", "moe_latent_size": None}, as_nano, False, id="nano"),
    pytest.param({"hybrid_override_pattern": "MEM*E", "moe_latent_size": None}, as_lightning, True, id="lightning"),
    pytest.param(
        {"hybrid_override_pattern": "MEMEM*EME", "n_routed_experts": 16}, with_mtp, True, id="super-and-ultra"
    ),
    pytest.param(
        {"hybrid_override_pattern": "M-M-M-MM-M*-M-", "mamba_head_dim": 80, "n_groups": 2},
        as_dense,
        False,
        id="nano-4b",
    ),
    pytest.param(
        {"hybrid_override_pattern": "M-M*-M-", "num_key_value_heads": 3, "n_groups": 6},
        lambda _: None,
        False,
        id="h-8b",
    ),
]


@pytest.mark.parametrize(("changes", "publish", "mtp"), MEMBERS)
def test_a_member_in_shards_is_the_same_engine(
    changes: dict[str, Any], publish: Callable[[Path], object], mtp: bool, tmp_path: Path
) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint", **changes)
    publish(checkpoint)
    whole = packed(checkpoint, tmp_path / "whole")

    assert packed(in_shards(checkpoint), tmp_path / "engine") == whole


@pytest.mark.parametrize(("changes", "publish", "mtp"), MEMBERS)
def test_a_member_gives_gives_the_tokens_of_transformers(
    changes: dict[str, Any], publish: Callable[[Path], object], mtp: bool, tmp_path: Path
) -> None:
    checkpoint = a_checkpoint(tmp_path / "checkpoint", **changes)
    oracle = an_oracle(checkpoint)
    publish(checkpoint)

    report = pack(checkpoint, tmp_path / "engine", dtype="FP32", max_batch=3, max_sequence_tokens=80)
    engine = open_engine(tmp_path / "engine", threads=1)
    answers = generate(engine, PROMPTS, SamplingParams(max_tokens=TOKENS, ignore_eos=True))
    engine.close()

    stored = load_file(checkpoint / "model.safetensors")
    assert report.mtp == mtp
    assert report.parameters == sum(tensor.numel() for tensor in stored.values())
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        assert unexpected_tokens(oracle_logits(oracle, prompt + answer)[len(prompt) - 1 : -1], answer) == []
