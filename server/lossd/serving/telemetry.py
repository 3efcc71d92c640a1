"""Every metric of the server: the only file that knows prometheus_client."""

from collections.abc import Iterable
from wsgiref.simple_server import WSGIServer

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, Info

# 0.1 ms to 30 s: a small call takes 0.3 ms, a batch of a gigabyte seconds.
_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5,
    10, 30,
)  # fmt: skip
UNKNOWN = "unknown"


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry, *, losses: Iterable[str]) -> None:
        self._registry = registry
        self._losses = frozenset(losses)
        self.requests = Counter(
            "lossd_requests",
            "Calls of ComputeLoss by loss and status.",
            ["loss", "status"],
            registry=registry,
        )
        self.examples = Counter(
            "lossd_examples", "Examples that were kept, by loss.", ["loss"], registry=registry
        )
        self.nonfinite = Counter(
            "lossd_nonfinite",
            "Examples whose loss or gradient was not finite, by loss.",
            ["loss"],
            registry=registry,
        )
        self.duration = Histogram(
            "lossd_request_duration_seconds",
            "Time from the first byte parsed to the reply built, by loss.",
            ["loss"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._build = Info("lossd_build", "Version and backend.", registry=registry)

    def describe(self, *, version: str, backend: str) -> None:
        """Says what runs."""
        self._build.info({"version": version, "backend": backend})

    def loss_label(self, name: str) -> str:
        """A label from a closed set, whatever a caller sent."""
        return name if name in self._losses else UNKNOWN

    def serve(self, host: str, port: int) -> WSGIServer:
        """Serves ``/metrics`` in a thread of its own; port 0 picks one."""
        server, _ = prometheus_client.start_http_server(port, host, registry=self._registry)
        return server
