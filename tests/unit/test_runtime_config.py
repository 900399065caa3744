"""An engine computes in a precision that keeps its tokens right, or not at all."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from nemotron_api.errors import EngineMismatch, InvalidSpec
from nemotron_runtime import open_engine
from nemotron_runtime.config import load_config
from tests.builders.checkpoints import a_checkpoint
from tests.builders.engines import packed
from tests.builders.members import edit

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def original(tmp_path_factory: Any) -> Path:
    return a_checkpoint(tmp_path_factory.mktemp("config") / "checkpoint")


@pytest.mark.parametrize(
    ("dtype", "says"),
    [
        ("FP16", "precision FP16: FP16 ends at 65504, and ReLU² .* use FP32 or BF16"),
        ("NVFP4", "precision NVFP4: NVFP4 weights are served decoded; use FP32 or BF16"),
        ("FP12", "precision FP12: unknown"),
    ],
)
def test_a_precision_that_gives_wrong_tokens_is_refused(original: Path, tmp_path: Path, dtype: str, says: str) -> None:
    with pytest.raises(InvalidSpec, match=says):
        packed(original, tmp_path / "engine", dtype)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dtype": "FP16"}, "ReLU²"),
        ({"state_dtype": "BF16"}, "state precision BF16: a BF16 state loses every small step"),
        ({"state_dtype": "FP8"}, "2 % of its accuracy .* use FP32 or FP16 or INT8"),
        ({"kv_dtype": "INT4"}, "KV precision INT4: unknown; use FP8, or none for FP32"),
    ],
)
def test_an_engine_of_such_a_precision_is_not_opened(
    original: Path, tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    packed(original, tmp_path)
    edit(tmp_path, "runtime.json", **changes)

    with pytest.raises(EngineMismatch, match=says):
        open_engine(tmp_path)


def test_an_engine_packed_before_states_and_pages_had_formats_of_their_own_opens(
    original: Path, tmp_path: Path
) -> None:
    packed(original, tmp_path)
    raw = json.loads((tmp_path / "runtime.json").read_text())
    (tmp_path / "runtime.json").write_text(
        json.dumps({name: value for name, value in raw.items() if name not in ("state_dtype", "kv_dtype")})
    )

    config = load_config(tmp_path)

    assert (config.state_dtype, config.kv) == ("FP32", torch.float32)
