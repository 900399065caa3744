"""Hand samples to the Triton server's own metrics endpoint."""

from collections.abc import Iterable
from typing import Any

from nemotron_backend.sample import Sample

Key = tuple[str, tuple[tuple[str, str], ...]]


class Exporter:
    """Sends what changed since the last call, since each change is a call into the server's process."""

    def __init__(self, metric_family: Any) -> None:
        """`metric_family` is `pb_utils.MetricFamily`."""
        self._metric_family = metric_family
        # A family whose Python object is gone makes every call on its metrics raise, so they are kept.
        self._families: dict[str, Any] = {}
        self._metrics: dict[Key, Any] = {}
        self._exported: dict[Key, float] = {}

    def export(self, samples: Iterable[Sample]) -> None:
        for sample in samples:
            key = (sample.name, sample.labels)
            before = self._exported.get(key, 0.0)
            if sample.value == before and key in self._metrics:
                continue
            metric = self._metrics.get(key) or self._create(key, sample)
            if sample.kind == "COUNTER":
                metric.increment(sample.value - before)
            else:
                metric.set(sample.value)
            self._exported[key] = sample.value

    def _create(self, key: Key, sample: Sample) -> Any:
        if sample.name not in self._families:
            kind = getattr(self._metric_family, sample.kind)
            self._families[sample.name] = self._metric_family(name=sample.name, description=sample.help, kind=kind)
        self._metrics[key] = self._families[sample.name].Metric(labels=dict(sample.labels))
        return self._metrics[key]
