"""With states and keys kept in narrow types the trained model says nearly what it says without (tier E3)."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from nemotron_runtime import pack
from tests.builders.forcing import errors, teacher_forced

pytestmark = pytest.mark.contract

TRAINED = Path(__file__).parents[2] / "examples" / "tiny" / "checkpoint"
TOKENS, PREFILL = 1000, 100

NARROW = [
    pytest.param({"state_dtype": "FP16"}, 1e-3, 0.998, id="states-in-FP16"),
    pytest.param({"state_dtype": "INT8"}, 2e-2, 0.98, id="states-in-INT8"),
    pytest.param({"kv_dtype": "FP8"}, 1e-2, 0.99, id="keys-and-values-in-FP8"),
    pytest.param({"state_dtype": "INT8", "kv_dtype": "FP8"}, 2e-2, 0.98, id="both-narrowest"),
]


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    """A text, as bytes after the 16 special tokens."""
    return [16 + byte for byte in (TRAINED / "chat_template.jinja").read_bytes()[:TOKENS]]


def logits(out: Path, tokens: list[int], **formats: Any) -> Tensor:
    pack(TRAINED, out, max_batch=1, max_sequence_tokens=TOKENS, **{"dtype": "FP32", **formats})
    return teacher_forced(out, tokens, PREFILL)


@pytest.fixture(scope="module")
def expected(tokens: list[int], tmp_path_factory: Any) -> Tensor:
    return logits(tmp_path_factory.mktemp("wide"), tokens)


@pytest.mark.parametrize(("formats", "may", "agree"), NARROW)
def test_logits_stay_near_those_of_wide_memory(
    tokens: list[int], expected: Tensor, tmp_path: Path, formats: dict[str, str], may: float, agree: float
) -> None:
    """`may`: root mean square of the difference, of the standard deviation of the logits; `agree`: same argmax."""
    narrow = logits(tmp_path, tokens, **formats)

    (rms, tail), spread = errors(narrow, expected), float(expected.std())
    same = float((narrow.argmax(-1) == expected.argmax(-1)).float().mean())
    late = errors(narrow[-200:], expected[-200:])[0]
    figures = f"RMS {rms / spread:.1e} σ, of the last 200 {late / spread:.1e} σ, p99.9 {tail / spread:.1e} σ"
    print(f"{formats}: {figures}, same argmax {same:.2%}")
    assert 0 < rms < may * spread
    assert same >= agree


def test_beside_bf16_narrow_memory_costs_less_than_half_as_much_again(
    tokens: list[int], expected: Tensor, tmp_path: Path
) -> None:
    plain = errors(logits(tmp_path / "plain", tokens, dtype="BF16"), expected)[0]
    narrow = errors(logits(tmp_path / "narrow", tokens, dtype="BF16", state_dtype="INT8", kv_dtype="FP8"), expected)[0]

    print(f"RMS in BF16 {plain:.3f}, with INT8 states and FP8 keys and values {narrow:.3f}")
    assert narrow < 1.5 * plain
