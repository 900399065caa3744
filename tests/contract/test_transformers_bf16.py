"""In BF16 the trained model is as near to its FP32 self as transformers' BF16 is (tier E3)."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import NemotronHForCausalLM

from nemotron_runtime import SamplingParams, pack
from nemotron_runtime.config import load_config
from nemotron_runtime.executor import open_executor
from nemotron_runtime.moves import ClearPages, ClearSlot
from nemotron_runtime.request import Lease, Request
from nemotron_runtime.scheduler import Slice
from tests.builders.checkpoints import an_oracle, oracle_logits, without_dt_clamp

pytestmark = pytest.mark.contract

TRAINED = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"
TOKENS = 400
ALLOWED = 1.25


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    """A text, as bytes after the 16 special tokens."""
    return [16 + byte for byte in (TRAINED / "chat_template.jinja").read_bytes()[:TOKENS]]


def teacher_forced(directory: Path, tokens: list[int], prefill: int) -> Tensor:
    """The engine's logits (l, vocabulary) from position prefill-1 on: a prefill, then one token at a time."""
    config = load_config(directory)
    _, executor = open_executor(directory, config)
    lease = Lease(slot=0, pages=list(range(1, 1 + config.pages_for(len(tokens)))))
    request = Request(1, len(tokens), tokens, SamplingParams(), lambda event: None, lease=lease)
    executor.move([ClearSlot(0), ClearPages(lease.pages)])
    sizes = [prefill, *[1] * (len(tokens) - prefill)]
    starts = [0, *range(prefill, len(tokens))]
    logits = []
    for start, size in zip(starts, sizes, strict=True):
        piece = Slice(request, start, size, is_last=True)
        logits.append(executor.run([piece]))
        lease.anchor = piece.next_anchor
    return torch.cat(logits)


def errors(logits: Tensor, expected: Tensor) -> tuple[float, float]:
    """Root mean square and 99.9th percentile of the difference."""
    difference = (logits - expected).abs().flatten()
    return float(difference.square().mean().sqrt()), float(difference.quantile(0.999))


@pytest.mark.parametrize("prefill", [1, 100], ids=["token-by-token", "after-a-prefill"])
def test_bf16_errors_stay_within_those_of_transformers(tokens: list[int], prefill: int, tmp_path: Path) -> None:
    pack(TRAINED, tmp_path, dtype="BF16", max_batch=1, max_sequence_tokens=TOKENS)
    expected = oracle_logits(an_oracle(TRAINED), tokens)[prefill - 1 :]
    theirs = without_dt_clamp(NemotronHForCausalLM.from_pretrained(TRAINED, dtype=torch.bfloat16).eval())

    rms, tail = errors(teacher_forced(tmp_path, tokens, prefill), expected)

    their_rms, their_tail = errors(oracle_logits(theirs, tokens)[prefill - 1 :], expected)
    assert rms <= ALLOWED * their_rms
    assert tail <= ALLOWED * their_tail
