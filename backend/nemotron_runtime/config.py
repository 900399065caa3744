"""Size a packed engine: `runtime.json`, written by `pack` and read by `open_engine`."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from nemotron_api.errors import EngineMismatch, InvalidSpec

RUNTIME = "runtime.json"
CONFIG = "config.json"
WEIGHTS = "weights.safetensors"

PAGE_TOKENS = 16

Precision = Literal["FP32", "BF16"]
StatePrecision = Literal["FP32"]
DTYPES: dict[str, torch.dtype] = {"FP32": torch.float32, "BF16": torch.bfloat16}

REFUSED: Mapping[str, str] = {
    "FP16": "FP16 ends at 65504, and ReLU² of the family's layers goes beyond it from 256 on",
    "FP8": "FP8 weights are served decoded",
    "NVFP4": "NVFP4 weights are served decoded",
}
"""Why an engine does not compute in a precision that exists."""

REFUSED_STATES: Mapping[str, str] = {
    "BF16": "a BF16 state loses every small step of the recurrence, and Nano 2 9B answers nothing right with one",
    "FP16": "an FP16 state needs stochastic rounding, which this runtime does not have",
}
"""Why an engine does not keep the recurrent state in a narrower type than FP32."""


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """What one engine holds: the element type of weights, KV and activations, and the sizes of its two pools."""

    dtype: Precision
    max_batch: int
    """Sequences that run at the same time."""
    cache_slots: int
    """State slots beside theirs, for prefixes that are kept."""
    max_sequence_tokens: int
    """Prompt and generated tokens of one sequence."""
    page_tokens: int
    pages: int
    """KV pages in all."""
    eos_token_ids: tuple[int, ...]
    state_dtype: StatePrecision = "FP32"
    """Of the recurrence; the convolution's taps are inputs and have `dtype`."""

    @property
    def slots(self) -> int:
        """State slots in all."""
        return self.max_batch + self.cache_slots

    def pages_for(self, tokens: int) -> int:
        """Pages that hold this many tokens."""
        return math.ceil(tokens / self.page_tokens)


def plan_config(
    dtype: Precision, max_batch: int, max_sequence_tokens: int, eos_token_ids: tuple[int, ...]
) -> RuntimeConfig:
    """Pools in which `max_batch` sequences of full length run at once, so that pages never wait for one another."""
    check_precision(dtype)
    pages = max_batch * math.ceil(max_sequence_tokens / PAGE_TOKENS)
    cache_slots = max(1, max_batch // 2)
    return RuntimeConfig(dtype, max_batch, cache_slots, max_sequence_tokens, PAGE_TOKENS, pages, eos_token_ids)


def check_precision(dtype: str, state: str = "FP32") -> None:
    """Raise InvalidSpec for a type of weights and activations, or of the recurrent state, that gives wrong tokens."""
    if dtype not in DTYPES:
        raise InvalidSpec(f"precision {dtype}: {REFUSED.get(dtype, 'unknown')}; use {' or '.join(DTYPES)}")
    if state != "FP32":
        raise InvalidSpec(f"state precision {state}: {REFUSED_STATES.get(state, 'unknown')}; use FP32")


def write_config(config: RuntimeConfig, directory: Path) -> None:
    (directory / RUNTIME).write_text(json.dumps(asdict(config), indent=2) + "\n", encoding="utf-8")


def load_config(directory: Path) -> RuntimeConfig:
    """Raises EngineMismatch when the directory is no engine of this version of the runtime."""
    try:
        raw = json.loads((directory / RUNTIME).read_text(encoding="utf-8"))
        config = RuntimeConfig(**{**raw, "eos_token_ids": tuple(raw["eos_token_ids"])})
        check_precision(config.dtype, config.state_dtype)
    except (OSError, ValueError, TypeError, KeyError, InvalidSpec) as error:
        raise EngineMismatch(f"{directory} holds no engine this runtime can open ({error}): build it again") from error
    if config.pages < config.pages_for(config.max_sequence_tokens):
        raise EngineMismatch(
            f"{RUNTIME} has {config.pages} pages, but one sequence of {config.max_sequence_tokens} tokens needs "
            f"{config.pages_for(config.max_sequence_tokens)}: build the engine again"
        )
    return config
