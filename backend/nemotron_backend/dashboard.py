"""Tell the engine's load under the names that dashboards and gateways know from the TensorRT-LLM backend.

What this engine does not know (micro batches, pinned memory) is absent, never zero.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from nemotron_backend.sample import Labels, Sample
from nemotron_runtime import EngineStats


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose metrics these are; `page_tokens` is how many tokens a KV page holds."""

    model: str
    version: str
    page_tokens: int | None = None

    @property
    def labels(self) -> Labels:
        return (("model", self.model), ("version", self.version))


@dataclass(frozen=True, slots=True)
class Family:
    """One gauge with a value per word of one label."""

    name: str
    label: str
    help: str
    values: Mapping[str, float]


def collect(stats: EngineStats, tokenless: int, model: Identity) -> Iterator[Sample]:
    """The families, of an engine of whose requests, one for each answer, `tokenless` have no token yet."""
    for family in _families(stats, tokenless, model):
        for word, value in family.values.items():
            yield Sample("GAUGE", family.name, family.help, value, (*model.labels, (family.label, word)))


def _families(stats: EngineStats, tokenless: int, model: Identity) -> tuple[Family, ...]:
    # Two threads count; between their looks a request may have moved on.
    reading = min(max(tokenless - stats.waiting, 0), stats.running)
    return (
        Family(
            "nv_trt_llm_request_metrics",
            "request_type",
            "Requests in the engine",
            {
                "active": stats.waiting + stats.running,
                "max": stats.state_slots_total,
                "scheduled": stats.running,
                "context": reading,
                "waiting": stats.waiting,
            },
        ),
        Family(
            "nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type", "Pages of the KV cache", _blocks(stats, model)
        ),
        Family(
            "nv_trt_llm_inflight_batcher_metrics",
            "inflight_batcher_specific_metric",
            "Work of the running batch",
            {"total_context_tokens": stats.prefill_backlog_tokens, "generation_requests": stats.running - reading},
        ),
        Family(
            "nv_trt_llm_general_metrics",
            "general_type",
            "Progress of the engine",
            {"timestamp": time.time(), "iteration_counter": stats.steps},
        ),
    )


def _blocks(stats: EngineStats, model: Identity) -> dict[str, float]:
    total, used = stats.kv_pages_total, stats.kv_pages_used
    blocks: dict[str, float] = {"max": total, "used": used, "free": total - used}
    if total:
        blocks["fraction"] = used / total
    if model.page_tokens:
        blocks |= {"tokens_per": model.page_tokens, "reused": stats.prefix_hit_tokens // model.page_tokens}
    return blocks
