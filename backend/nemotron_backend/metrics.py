"""Describe the backend's metrics and read them off the service."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from nemotron_backend import dashboard
from nemotron_backend.sample import Kind, Labels, Sample
from nemotron_backend.service import Service
from nemotron_backend.tally import Tally
from nemotron_runtime import EngineStats
from nemotron_runtime.histogram import Observed


@dataclass(frozen=True, slots=True)
class FromStats:
    """A metric the engine itself knows."""

    kind: Kind
    name: str
    help: str
    read: Callable[[EngineStats], float]


STATS: Final = (
    FromStats("GAUGE", "nemotron_waiting_requests", "Requests that wait for a state slot", lambda s: s.waiting),
    FromStats("GAUGE", "nemotron_running_requests", "Requests that hold a state slot", lambda s: s.running),
    FromStats("GAUGE", "nemotron_state_slots_total", "State slots of the engine", lambda s: s.state_slots_total),
    FromStats("GAUGE", "nemotron_state_slots_used", "State slots in use", lambda s: s.state_slots_used),
    FromStats("GAUGE", "nemotron_kv_pages_total", "KV pages of the engine", lambda s: s.kv_pages_total),
    FromStats("GAUGE", "nemotron_kv_pages_used", "KV pages in use", lambda s: s.kv_pages_used),
    FromStats(
        "GAUGE",
        "nemotron_prefill_backlog_tokens",
        "Prompt tokens still to be read by the model",
        lambda s: s.prefill_backlog_tokens,
    ),
    FromStats("GAUGE", "nemotron_last_step_seconds", "Duration of the latest step", lambda s: s.last_step_seconds),
    FromStats("COUNTER", "nemotron_steps_total", "Steps of the engine", lambda s: s.steps),
    FromStats("COUNTER", "nemotron_prompt_tokens_total", "Prompt tokens read", lambda s: s.prompt_tokens),
    FromStats("COUNTER", "nemotron_generated_tokens_total", "Tokens generated", lambda s: s.generated_tokens),
    FromStats(
        "COUNTER",
        "nemotron_prefix_hit_tokens_total",
        "Prompt tokens not computed, for a state after them was kept",
        lambda s: s.prefix_hit_tokens,
    ),
    FromStats("COUNTER", "nemotron_drafted_tokens_total", "Tokens drafted ahead", lambda s: s.drafted_tokens),
    FromStats("COUNTER", "nemotron_accepted_tokens_total", "Drafted tokens that held", lambda s: s.accepted_tokens),
    FromStats(
        "COUNTER", "nemotron_preemptions_total", "Requests that lost their memory to others", lambda s: s.preemptions
    ),
)


def collect(service: Service, model: dashboard.Identity) -> Iterator[Sample]:
    """Every metric of `service`, which serves `model`, at this moment."""
    stats = service.engine.stats()
    for metric in STATS:
        yield Sample(metric.kind, metric.name, metric.help, metric.read(stats))
    yield Sample("GAUGE", "nemotron_active_requests", "Requests not yet answered completely", service.active)
    yield Sample("GAUGE", "nemotron_draining", "1 while new requests are refused", float(service.is_refusing()))
    stall = service.stall_seconds
    yield Sample("GAUGE", "nemotron_heartbeat_seconds", "Since the engine's loop or the sender last turned", stall)
    yield from _tallied(service.tally)
    yield from _histogram("nemotron_step_seconds", "Duration of steps", stats.step_seconds)
    yield from dashboard.collect(stats, service.tokenless, model)
    for name, lengths in (("input", service.tally.prompt_length), ("output", service.tally.answer_length)):
        help_text = f"{name.capitalize()} tokens of requests that ended"
        yield from _histogram(f"nv_llm_{name}_token_len", help_text, lengths.observed, model.labels)


def _tallied(tally: Tally) -> Iterator[Sample]:
    yield Sample("COUNTER", "nemotron_requests_total", "Requests received", tally.requests)
    for reason, count in tally.failures.items():
        labels = (("reason", reason),)
        yield Sample("COUNTER", "nemotron_request_failures_total", "Requests failed, by reason", count, labels)
    yield from _histogram(
        "nemotron_first_token_seconds", "From a request to its first token", tally.first_token.observed
    )
    yield from _histogram("nemotron_inter_token_seconds", "Between two tokens of a request", tally.inter_token.observed)


def _histogram(name: str, help_text: str, seen: Observed, labels: Labels = ()) -> Iterator[Sample]:
    # As counters, not as the server's own histogram: its observe() is a call into another process for every token.
    buckets = seen.buckets
    for bound, count in buckets.items():
        yield Sample("COUNTER", f"{name}_bucket", help_text, count, (*labels, ("le", bound)))
    yield Sample("COUNTER", f"{name}_sum", help_text, seen.sum, labels)
    yield Sample("COUNTER", f"{name}_count", help_text, buckets["+Inf"], labels)
