"""Tier E2 with the fused kernels, under Triton's interpreter: a whole model answers as without them."""

from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
from torch import Tensor

import tests.builders.interpreter  # noqa: F401
from nemotron_api.errors import KernelUnavailable
from nemotron_kernels.mamba_step import commit_fused
from nemotron_runtime import pack
from nemotron_runtime.config import Precision, StatePrecision, load_config
from nemotron_runtime.executor import open_executor
from nemotron_runtime.speculation import LookUp
from tests.builders.company import Ask, Prefix, Room, serve
from tests.builders.golden import TRAINED
from tests.builders.numbers import error
from tests.contract.test_e2_company import judge

pytestmark = pytest.mark.contract

LOGITS_ERROR = {"FP32": 1e-4, "BF16": 0.05}
"""Relative to the largest logit. BF16 rounds at other places; what each of them is off by is tier E3's business."""
TEXT = [16 + byte for byte in (TRAINED / "chat_template.jinja").read_bytes()]


@pytest.mark.parametrize(
    ("dtype", "state"), [("FP32", "FP32"), ("BF16", "FP16")], ids=["FP32", "BF16-with-FP16-states"]
)
def test_a_model_answers_with_fused_kernels_as_without_them(
    dtype: Precision, state: StatePrecision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = Mock(wraps=commit_fused)
    monkeypatch.setattr("nemotron_runtime.mamba.commit_fused", moved)
    # given a prompt of one window, and one whose anchor moves with its second token
    asks = [Ask(tuple(TEXT[:3]), 3), Ask(tuple(TEXT[:31]), 3)]
    pack(TRAINED, tmp_path, dtype=dtype, state_dtype=state, max_batch=2, max_sequence_tokens=64)
    given, plain = dict[Prefix, Tensor](), dict[Prefix, Tensor]()
    room = Room(max_batch=2, pages=18, prefill_tokens=40)

    answers, _, _ = serve(
        tmp_path, asks, room, given, LookUp(), exact=False, opener=partial(open_executor, kernels="triton")
    )
    serve(tmp_path, asks, room, plain, exact=False, opener=partial(open_executor, kernels="torch"))

    assert moved.call_count >= 3, "the anchor moves in each of the three Mamba blocks"
    shared = given.keys() & plain.keys()
    assert len(shared) >= 5
    assert max(error(given[prefix], plain[prefix]) for prefix in shared) < LOGITS_ERROR[dtype]
    if dtype == "FP32":
        judge(TRAINED, asks, answers)


def test_exact_mode_has_no_fused_kernels(tmp_path: Path) -> None:
    pack(TRAINED, tmp_path, dtype="FP32", max_batch=2, max_sequence_tokens=64)

    with pytest.raises(KernelUnavailable, match=r'exact mode promises .*; ask for "auto" or "torch"'):
        open_executor(tmp_path, load_config(tmp_path), exact=True, kernels="triton")
