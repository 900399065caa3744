"""Make an engine for our own runtime: weights repacked, tokenizer, model repository, smoke generation."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic.alias_generators import to_camel

from nemotron_api.build import EngineRequest
from nemotron_api.errors import WeightsInvalid
from nemotron_build import repository, smoke
from nemotron_build.checkpoint import TOKENIZER, Checkpoint
from nemotron_build.progress import Log, size
from nemotron_runtime import pack
from nemotron_runtime.tails import check_taps

ELEMENT_BYTES = {"FP32": 4, "BF16": 2}

COPIED = (
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)
"""What turns text into tokens and back; beside the first, whatever of it the checkpoint has."""


def check(checkpoint: Checkpoint) -> None:
    """Raise InvalidModel for a model that the runtime would not open, before anything is written."""
    check_taps(checkpoint.config)


def needed_bytes(request: EngineRequest, checkpoint: Checkpoint) -> int:
    """What the engine takes on disk: the weights in its precision, and a hundredth for tensors that stay in FP32."""
    return checkpoint.parameters * ELEMENT_BYTES[request.precision] * 101 // 100


def build(request: EngineRequest, checkpoint: Path, out: Path, log: Log) -> dict[str, Any]:
    """Fill `out` with an engine and return what was learnt; raises InvalidModel, WeightsInvalid or SmokeFailed."""
    packed = pack(
        checkpoint,
        out,
        dtype=request.precision,
        max_batch=request.limits.max_batch,
        max_sequence_tokens=request.limits.max_sequence_tokens,
    )
    log(f"packed {packed.parameters} parameters as {request.precision}: {size(packed.weight_bytes)}")
    for stored_as, parameters in packed.dequantised.items():
        log(f"decoded {parameters} of them from {stored_as}; activations and KV cache are not quantised")
    _copy_tokenizer(checkpoint, out)
    repository.write(out, request.model)
    generated = smoke.generate(out)
    log(f"smoke test: {generated.prompt!r} goes on {generated.text!r}")
    return {to_camel(name): value for name, value in asdict(packed).items()} | {"smoke": asdict(generated)}


def _copy_tokenizer(checkpoint: Path, out: Path) -> None:
    if not (checkpoint / TOKENIZER).exists():
        raise WeightsInvalid(f"the checkpoint has no {TOKENIZER}: add it to the source and fetch again")
    for name in COPIED:
        if (checkpoint / name).exists():
            shutil.copyfile(checkpoint / name, out / name)
