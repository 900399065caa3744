"""Count what the operator does, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The operator's own metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconciles = Counter(
            "nemotron_reconciles", "Keys worked on, by kind and outcome.", ("kind", "outcome"), registry=self.registry
        )
        self.seconds = Histogram(
            "nemotron_reconcile_seconds", "Time of one reconcile, API calls included.", registry=self.registry
        )
        self.queue = Gauge("nemotron_queue_keys", "Keys that wait for a worker.", registry=self.registry)
