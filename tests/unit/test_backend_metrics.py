"""The metrics others rely on have the names they know."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from nemotron_backend.dashboard import Identity
from nemotron_backend.exporter import Exporter
from nemotron_backend.metrics import collect
from nemotron_backend.sample import Sample
from nemotron_runtime import SamplingParams
from tests.builders.metric_names import NAMES
from tests.builders.service import RecordedReply, ScriptedEngine, a_request, a_service, ended, settle

pytestmark = pytest.mark.unit

MODEL = Identity("tiny", "1", page_tokens=16)


def values_of(samples: Iterable[Sample]) -> dict[tuple[str, ...], float]:
    """Values by name and the words of the labels, the model's own apart."""
    return {
        (sample.name, *(word for label, word in sample.labels if label not in ("model", "version"))): sample.value
        for sample in samples
    }


def test_metrics_tell_what_happened() -> None:
    now = [1.0]
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine, clock=lambda: now[0])

    service.admit(a_request(), reply)
    now[0] = 1.03
    engine.make(1, *b"a")
    now[0] = 1.04
    engine.make(1, *b"b", end="stop")
    ended(service, reply)

    values = values_of(collect(service, MODEL))
    assert values["nemotron_waiting_requests",] == 1
    assert values["nemotron_state_slots_used",] == 2
    assert values["nemotron_heartbeat_seconds",] == 0.125
    assert values["nemotron_requests_total",] == 1
    assert values["nemotron_first_token_seconds_count",] == 1
    assert values["nemotron_first_token_seconds_sum",] == pytest.approx(0.03)
    assert values["nemotron_first_token_seconds_bucket", "0.025"] == 0
    assert values["nemotron_first_token_seconds_bucket", "0.05"] == 1
    assert values["nemotron_inter_token_seconds_count",] == 1
    assert values["nemotron_inter_token_seconds_bucket", "+Inf"] == 1
    assert (values["nemotron_step_seconds_bucket", "0.16"], values["nemotron_step_seconds_bucket", "0.32"]) == (6, 7)
    assert (values["nemotron_step_seconds_count",], values["nemotron_step_seconds_sum",]) == (7, 0.25 + 6 * 0.01)
    assert values["nv_llm_input_token_len_sum",] == 2
    assert values["nv_llm_output_token_len_bucket", "10"] == 1


def test_the_load_is_told_as_dashboards_know_it() -> None:
    service = a_service(ScriptedEngine())

    values = values_of(collect(service, MODEL))
    service.close()

    requests = {word: values["nv_trt_llm_request_metrics", word] for word in ("active", "max", "scheduled", "waiting")}
    assert requests == {"active": 3, "max": 8, "scheduled": 2, "waiting": 1}
    blocks = ("max", "used", "free", "fraction", "tokens_per", "reused")
    assert [values["nv_trt_llm_kv_cache_block_metrics", word] for word in blocks] == [100, 5, 95, 0.05, 16, 4]
    assert values["nv_trt_llm_inflight_batcher_metrics", "total_context_tokens"] == 30
    assert values["nv_trt_llm_general_metrics", "iteration_counter"] == 7
    assert values["nemotron_preemptions_total",] == 3


def test_each_of_several_answers_counts_as_the_engine_counts_them() -> None:
    # given an engine with two answers of one request, of which one has a token, and one that waits
    engine, reply = ScriptedEngine(), RecordedReply()
    service = a_service(engine)
    service.admit(a_request(answers=3, sampling=SamplingParams(temperature=1.0)), reply)
    engine.make(2, *b"a")
    settle(service, engine)

    values = values_of(collect(service, MODEL))
    batch = ("nv_trt_llm_inflight_batcher_metrics", "generation_requests")
    assert (values["nv_trt_llm_request_metrics", "context"], values[batch]) == (1, 1)
    for request_id, text in ((1, b"abc"), (2, b"b"), (3, b"abcd")):
        engine.make(request_id, *text, end="stop")
    ended(service, reply)

    # then a request has one prompt, and each of its answers a length; the other request is the test's own marker
    values = values_of(collect(service, MODEL))
    assert (values["nv_llm_input_token_len_count",], values["nv_llm_output_token_len_count",]) == (2, 4)
    assert values["nv_llm_output_token_len_sum",] == 3 + 2 + 4 + 1


def test_the_names_are_these_and_no_others() -> None:
    service = a_service(ScriptedEngine())
    found = {(sample.kind, sample.name) for sample in collect(service, MODEL)}
    service.close()

    # Reasons come with their first failure.
    assert found == NAMES - {("COUNTER", "nemotron_request_failures_total")}


@dataclass
class RecordedFamily:
    """Stands in for pb_utils.MetricFamily: each call on a metric would be a call into the server's process."""

    COUNTER = "counter"
    GAUGE = "gauge"

    name: str
    description: str
    kind: str
    calls: list[tuple[str, float]] = field(default_factory=list)

    def Metric(self, labels: dict[str, str]) -> Any:
        return self

    def increment(self, value: float) -> None:
        self.calls.append((self.name, value))

    def set(self, value: float) -> None:
        self.calls.append((self.name, value))


def test_what_did_not_change_is_not_sent_again() -> None:
    families: list[RecordedFamily] = []

    class Family(RecordedFamily):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            families.append(self)

    exporter = Exporter(Family)
    for total in (0, 3, 3, 5):
        exporter.export([Sample("COUNTER", "c", "", total), Sample("GAUGE", "g", "", 1.0)])

    assert [family.calls for family in families] == [[("c", 0), ("c", 3), ("c", 2)], [("g", 1.0)]]
