"""Tier E1 on the device: in exact mode company changes no bit, however its libraries choose their kernels."""

import random
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from benchmarks.models import WIDE, write_random
from nemotron_runtime import pack
from nemotron_runtime.config import Precision
from tests.builders.company import Ask, Guesser, Opener, Prefix, Room, serve
from tests.builders.golden import TRAINED
from tests.contract.test_exactness import VOCABULARY, a_crowd, alone

pytestmark = pytest.mark.gpu

DENSE: dict[str, Any] = {
    **WIDE,
    "hybrid_override_pattern": "M-*",
    "num_hidden_layers": 3,
    "vocab_size": VOCABULARY,
    "hidden_size": 320,
    "mamba_num_heads": 8,
    "mamba_head_dim": 80,
    "num_attention_heads": 8,
    "intermediate_size": 832,
}
"""Widths at which kernels are chosen as they are for real models: multiples of 64, more than one block of threads."""


@pytest.mark.parametrize("dtype", ["FP32", "BF16"])
@pytest.mark.parametrize("shape", ["trained", "dense"])
def test_company_changes_no_bit(shape: str, dtype: Precision, opener: Opener, tmp_path: Path) -> None:
    checkpoint = TRAINED if shape == "trained" else write_random(tmp_path / "checkpoint", DENSE)
    pack(checkpoint, tmp_path / "engine", dtype=dtype, max_batch=4, max_sequence_tokens=240)
    asks, logits = a_crowd(seed=1), dict[Prefix, Tensor]()
    expected = alone(tmp_path / "engine", asks, logits, opener)
    answers = {ask.prompt: answer for ask, answer in zip(asks, expected, strict=True)}
    guesser = Guesser(answers, random.Random(2), VOCABULARY)
    room = Room(pages=18, prefill_tokens=40)

    crowded, recorder, engine = serve(tmp_path / "engine", asks, room, logits, guesser, exact=True, opener=opener)

    stats = engine.stats()
    assert len(recorder.differing) == 0, f"{len(recorder.differing)} of {recorder.rows} rows differ"
    assert crowded == expected
    assert min(stats.preemptions, stats.prefix_hit_tokens, stats.accepted_tokens) > 0


def test_drafts_of_the_models_own_module_change_no_bit(opener: Opener, tmp_path: Path) -> None:
    pack(TRAINED, tmp_path, dtype="FP32", max_batch=4, max_sequence_tokens=240)
    text = [16 + byte for byte in (TRAINED / "chat_template.jinja").read_bytes()]
    asks = [Ask((*text[:start], *text[7 * start : 9 * start]), 40, start % 3) for start in range(3, 40, 4)]
    logits: dict[Prefix, Tensor] = {}
    expected = alone(tmp_path, asks, logits, opener)

    crowded, recorder, engine = serve(tmp_path, asks, Room(), logits, "module", exact=True, opener=opener)

    assert recorder.differing == []
    assert crowded == expected
    assert engine.stats().accepted_tokens > 0
