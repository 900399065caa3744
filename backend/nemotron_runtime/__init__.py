"""The inference engine of hybrid models: prompts in, token streams out."""

from nemotron_runtime.engine import HybridEngine, open_engine
from nemotron_runtime.pack import PackReport, pack
from nemotron_runtime.types import Engine, EngineStats, FinishReason, SamplingParams, Sink, TokenEvent

__all__ = [
    "Engine",
    "EngineStats",
    "FinishReason",
    "HybridEngine",
    "PackReport",
    "SamplingParams",
    "Sink",
    "TokenEvent",
    "open_engine",
    "pack",
]
