"""Turn a checkpoint into the files an engine is opened from."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nemotron_api.hybrid_config import HybridConfig, read_config, read_json, read_token_ids
from nemotron_runtime.checkpoint import open_checkpoint
from nemotron_runtime.config import (
    CONFIG,
    DTYPES,
    WEIGHTS,
    KvPrecision,
    Precision,
    StatePrecision,
    plan_config,
    write_config,
)
from nemotron_runtime.memory import Memory
from nemotron_runtime.mtp import with_room
from nemotron_runtime.tails import check_taps
from nemotron_runtime.tensorfile import size_of, write_tensors

GENERATION_CONFIG = "generation_config.json"


@dataclass(frozen=True, slots=True)
class PackReport:
    """What the engine holds: how large its weights are, and one unit of each of its two pools."""

    parameters: int
    weight_bytes: int
    slot_bytes: int
    page_bytes: int
    page_tokens: int
    pages: int
    mtp: bool
    """Whether the multi-token-prediction module is in it: config.json may describe one that the weights lack."""
    dequantised: Mapping[str, int]
    """Parameters that the checkpoint stores quantised, by format: the engine has them in its own precision."""


def pack(
    checkpoint: Path,
    out: Path,
    *,
    dtype: Precision,
    max_batch: int,
    max_sequence_tokens: int,
    state_dtype: StatePrecision = "FP32",
    kv_dtype: KvPrecision | None = None,
) -> PackReport:
    """Write the engine of a checkpoint's folder into `out`, which is made if need be.

    Quantised weights are decoded: the engine computes with the very numbers they stand for, rounded to `dtype`, and
    leaves activations unquantised, whatever the checkpoint was calibrated for. What sequences remember is as wide as
    `state_dtype` and `kv_dtype` say; keys and values without one are kept as `dtype`.

    Raises InvalidModel for a config.json that is not of the family, or asks for more than the runtime computes, and
    WeightsInvalid for weights that do not match it.
    """
    model = read_config(checkpoint)
    check_taps(model)
    weights = open_checkpoint(checkpoint, model)
    tensors = weights.contents.layout
    eos_token_ids = _eos_token_ids(checkpoint, model)
    runtime = plan_config(dtype, max_batch, max_sequence_tokens, eos_token_ids, state_dtype, kv_dtype)
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(checkpoint / CONFIG, out / CONFIG)
    write_tensors(out / WEIGHTS, tensors, DTYPES[dtype], weights.read)
    write_config(runtime, out)

    memory = Memory(with_room(model) if weights.contents.mtp else model, runtime, device="meta")
    return PackReport(
        parameters=weights.contents.parameters,
        weight_bytes=sum(size_of(packed, DTYPES[dtype]) for packed in tensors),
        slot_bytes=memory.slot_bytes,
        page_bytes=memory.page_bytes,
        page_tokens=runtime.page_tokens,
        pages=runtime.pages,
        mtp=weights.contents.mtp,
        dequantised=weights.contents.quantised_parameters,
    )


def _eos_token_ids(checkpoint: Path, model: HybridConfig) -> tuple[int, ...]:
    """The tokens that end a text: generation_config.json often knows more of them than config.json."""
    path = checkpoint / GENERATION_CONFIG
    more = read_token_ids(read_json(path), "eos_token_id") if path.is_file() else ()
    return tuple(sorted({*model.eos_token_ids, *more}))
