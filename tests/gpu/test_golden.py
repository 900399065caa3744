"""Tier E2 on the device: FP32 logits and greedy tokens are those of transformers on a CPU."""

from functools import partial
from pathlib import Path

import pytest
from torch import Tensor

from nemotron_kernels.choose import Kernels
from nemotron_runtime import pack
from nemotron_runtime.executor import open_executor
from tests.builders.company import Ask, Prefix, Room, serve
from tests.builders.golden import NEW_TOKENS, TRAINED, goldens
from tests.builders.numbers import error

pytestmark = pytest.mark.gpu

LOGITS_ERROR = 1e-4


@pytest.mark.parametrize(
    ("exact", "kernels"),
    [
        pytest.param(True, "torch", id="exact"),
        pytest.param(False, "torch", id="fast"),
        pytest.param(False, "triton", id="fused"),
    ],
)
def test_fp32_logits_and_tokens_are_those_of_transformers(
    exact: bool, kernels: Kernels, device: str, tmp_path: Path
) -> None:
    if kernels == "triton" and device == "cpu":
        pytest.skip("takes Triton's interpreter minutes: tests/contract/test_e2_fused.py has a few tokens of it")
    opener = partial(open_executor, device=device, kernels=kernels)
    pack(TRAINED, tmp_path, dtype="FP32", max_batch=4, max_sequence_tokens=320)
    expected, logits = goldens(), dict[Prefix, Tensor]()
    asks = [Ask(golden.prompt, NEW_TOKENS) for golden in expected]

    answers, _, _ = serve(tmp_path, asks, Room(prefill_tokens=256), logits, exact=exact, opener=opener)

    assert answers == [golden.answer for golden in expected]
    for golden in expected:
        for count, row in enumerate(golden.logits):
            assert error(logits[(*golden.prompt, *golden.answer[:count])], row) < LOGITS_ERROR
