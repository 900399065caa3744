"""The inference engine of hybrid models: prompts in, token streams out."""

from nemotron_runtime.engine import HybridEngine
from nemotron_runtime.opening import open_engine
from nemotron_runtime.pack import PackReport, pack
from nemotron_runtime.types import (
    Engine,
    EngineStats,
    FinishReason,
    Guide,
    SamplingParams,
    Sink,
    Terms,
    ThinkingBudget,
    TokenEvent,
    TokenLogprobs,
)

__all__ = [
    "Engine",
    "EngineStats",
    "FinishReason",
    "Guide",
    "HybridEngine",
    "PackReport",
    "SamplingParams",
    "Sink",
    "Terms",
    "ThinkingBudget",
    "TokenEvent",
    "TokenLogprobs",
    "open_engine",
    "pack",
]
