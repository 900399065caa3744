"""Hold what the chart decides for every deployment."""

from nemotron_api.deployment import Resources
from nemotron_api.record import Record


class Settings(Record):
    """The operator's configuration, read from one JSON file that the chart renders from its values."""

    runtime_image: str
    """Serves and builds where `spec.runtime.image` says nothing."""
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    """Watch only these; empty means all."""
    resources: Resources = Resources(cpu="250m", memory="2Gi")
    connection_age_seconds: int = 30
    """Clients reconnect this often, so that they find new replicas."""
    metrics_interval_seconds: float = 2.0
    target_occupancy: float = 0.7
    """Share of a replica's state slots that the autoscaler fills before it adds another."""
    default_stabilization: str = "180s"
    retry_base_seconds: float = 10.0
    """A failed Job is tried again after this long, then twice as long, at most ten minutes."""
    health_port: int = 8080
    metrics_port: int = 9090
