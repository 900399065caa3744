"""In BF16 the trained model is as near to its FP32 self as transformers' BF16 is (tier E3)."""

from pathlib import Path

import pytest
import torch
from transformers import NemotronHForCausalLM

from nemotron_runtime import pack
from tests.builders.checkpoints import an_oracle, oracle_logits, without_dt_clamp
from tests.builders.forcing import agreement, errors, teacher_forced

pytestmark = pytest.mark.contract

TRAINED = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"
TOKENS = 400
ALLOWED = 1.25


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    """A text, as bytes after the 16 special tokens."""
    return [16 + byte for byte in (TRAINED / "chat_template.jinja").read_bytes()[:TOKENS]]


@pytest.mark.parametrize("prefill", [1, 100], ids=["token-by-token", "after-a-prefill"])
def test_bf16_errors_stay_within_those_of_transformers(tokens: list[int], prefill: int, tmp_path: Path) -> None:
    pack(TRAINED, tmp_path, dtype="BF16", max_batch=1, max_sequence_tokens=TOKENS)
    expected = oracle_logits(an_oracle(TRAINED), tokens)[prefill - 1 :]
    theirs = without_dt_clamp(NemotronHForCausalLM.from_pretrained(TRAINED, dtype=torch.bfloat16).eval())

    logits = teacher_forced(tmp_path, tokens, prefill)
    rms, tail = errors(logits, expected)

    their_logits = oracle_logits(theirs, tokens)[prefill - 1 :]
    their_rms, their_tail = errors(their_logits, expected)
    print(f"\nE3, BF16 against FP32 over {len(expected)} positions     RMS     p99.9   same choice")
    for name, found in (("ours", logits), ("transformers", their_logits)):
        figures = *errors(found, expected), agreement(found, expected)
        print("{:40s}{:10.4f}{:10.4f}{:12.1%}".format(name, *figures))
    assert agreement(logits, expected) > 0.9
    assert rms <= ALLOWED * their_rms
    assert tail <= ALLOWED * their_tail
