"""Size a packed engine: `runtime.json`, written by `pack` and read by `open_engine`."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from nemotron_api.errors import EngineMismatch, InvalidSpec

RUNTIME = "runtime.json"
CONFIG = "config.json"
WEIGHTS = "weights.safetensors"

PAGE_TOKENS = 16

Precision = Literal["FP32", "BF16"]
StatePrecision = Literal["FP32", "FP16", "INT8"]
KvPrecision = Literal["FP8"]
DTYPES: dict[str, torch.dtype] = {"FP32": torch.float32, "BF16": torch.bfloat16}
KV_DTYPES: Mapping[str, torch.dtype] = {"FP8": torch.float8_e4m3fn}

REFUSED: Mapping[str, str] = {
    "FP16": "FP16 ends at 65504, and ReLU² of the family's layers goes beyond it from 256 on",
    "FP8": "FP8 weights are served decoded",
    "NVFP4": "NVFP4 weights are served decoded",
}
"""Why an engine does not compute in a precision that exists."""

REFUSED_STATES: Mapping[str, str] = {
    "BF16": "a BF16 state loses every small step of the recurrence, and Nano 2 9B answers nothing right with one",
    "FP8": "an FP8 state costs Super 2 % of its accuracy even with stochastic rounding, and INT8 takes as little",
}
"""Why an engine does not keep the recurrent state in a type that exists."""


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
    """Of the recurrence, rounded by chance where it is not FP32; the convolution's taps are inputs and have `dtype`."""
    kv_dtype: KvPrecision | None = None
    """Of keys and values; None is `dtype`."""

    @property
    def kv(self) -> torch.dtype:
        return KV_DTYPES[self.kv_dtype] if self.kv_dtype else DTYPES[self.dtype]

    @property
    def slots(self) -> int:
        """State slots in all."""
        return self.max_batch + self.cache_slots

    def pages_for(self, tokens: int) -> int:
        """Pages that hold this many tokens."""
        return math.ceil(tokens / self.page_tokens)


def plan_config(
    dtype: Precision,
    max_batch: int,
    max_sequence_tokens: int,
    eos_token_ids: tuple[int, ...],
    state_dtype: StatePrecision = "FP32",
    kv_dtype: KvPrecision | None = None,
) -> RuntimeConfig:
    """Pools in which `max_batch` sequences of full length run at once, so that pages never wait for one another."""
    check_precision(dtype, state_dtype, kv_dtype)
    return RuntimeConfig(
        dtype=dtype,
        max_batch=max_batch,
        cache_slots=max(1, max_batch // 2),
        max_sequence_tokens=max_sequence_tokens,
        page_tokens=PAGE_TOKENS,
        pages=max_batch * math.ceil(max_sequence_tokens / PAGE_TOKENS),
        eos_token_ids=eos_token_ids,
        state_dtype=state_dtype,
        kv_dtype=kv_dtype,
    )


def check_precision(dtype: str, state: str = "FP32", kv: str | None = None) -> None:
    """Raise InvalidSpec for a type of weights and activations, of states, or of keys and values we do not serve in."""
    if dtype not in DTYPES:
        raise InvalidSpec(f"precision {dtype}: {REFUSED.get(dtype, 'unknown')}; use {' or '.join(DTYPES)}")
    if state not in (served := get_args(StatePrecision)):
        raise InvalidSpec(f"state precision {state}: {REFUSED_STATES.get(state, 'unknown')}; use {' or '.join(served)}")
    if kv is not None and kv not in KV_DTYPES:
        raise InvalidSpec(f"KV precision {kv}: unknown; use {' or '.join(KV_DTYPES)}, or none for {dtype}")


def write_config(config: RuntimeConfig, directory: Path) -> None:
    (directory / RUNTIME).write_text(json.dumps(asdict(config), indent=2) + "\n", encoding="utf-8")


def load_config(directory: Path) -> RuntimeConfig:
    """Raises EngineMismatch when the directory is no engine of this version of the runtime."""
    try:
        raw = json.loads((directory / RUNTIME).read_text(encoding="utf-8"))
        config = RuntimeConfig(**{**raw, "eos_token_ids": tuple(raw["eos_token_ids"])})
        check_precision(config.dtype, config.state_dtype, config.kv_dtype)
    except (OSError, ValueError, TypeError, KeyError, InvalidSpec) as error:
        raise EngineMismatch(f"{directory} holds no engine this runtime can open ({error}): build it again") from error
    if config.pages < config.pages_for(config.max_sequence_tokens):
        raise EngineMismatch(
            f"{RUNTIME} has {config.pages} pages, but one sequence of {config.max_sequence_tokens} tokens needs "
            f"{config.pages_for(config.max_sequence_tokens)}: build the engine again"
        )
    return config
