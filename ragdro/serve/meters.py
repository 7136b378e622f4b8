"""What `/metrics` says, in Prometheus' format. Each server has its own registry."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Meters:
    """Counts of requests by route and status, their seconds, who waits, and how large batches are."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self.requests = Counter("ragdro_requests", "answered requests", ["route", "status"], registry=own)
        self.seconds = Histogram(
            "ragdro_request_seconds", "from request to answer", ["route"], buckets=_SECONDS, registry=own
        )
        self.waiting = Gauge("ragdro_waiting", "requests that wait for the models", registry=own)
        self.batch = Histogram(
            "ragdro_batch_requests", "requests worked on together", buckets=(1, 2, 4, 8, 16, 32), registry=own
        )
        self.work = Histogram(
            "ragdro_batch_seconds", "the models' time for a batch", buckets=_SECONDS, registry=own
        )

    def text(self) -> bytes:
        """The exposition."""
        return generate_latest(self._registry)
