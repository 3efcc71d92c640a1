"""The composition root: everything the server is made of, in reading order."""

import importlib.metadata
import logging
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from lossd.backends import Backend
from lossd.backends.choose import choose
from lossd.errors import LossdError
from lossd.losses import LOSSES
from lossd.serving.allocator import keep_freed_memory
from lossd.serving.config import Config
from lossd.serving.servicer import SERVICE, LossServicer
from lossd.serving.telemetry import Metrics

log = logging.getLogger(__name__)


class AddressError(LossdError):
    """The address cannot be listened on."""

    reason = "ADDRESS"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.  ``address`` and ``metrics_url`` are where it can be reached."""

    address: str
    metrics_url: str | None
    backend: Backend
    backend_reason: str
    _server: grpc.Server
    _health: health.HealthServicer
    _metrics_server: WSGIServer | None
    _grace_seconds: float

    def stop(self) -> None:
        """Says that it goes, finishes what was accepted, and ends."""
        self._health.enter_graceful_shutdown()
        self._server.stop(self._grace_seconds).wait()
        self.backend.close()
        if self._metrics_server is not None:
            self._metrics_server.shutdown()
            self._metrics_server.server_close()


def start(config: Config) -> Server:
    """Starts a server.

    Raises:
        BackendUnavailable: if the backend cannot be used.
        AddressError: if an address cannot be listened on.
    """
    keep_freed_memory()
    chosen = choose(config.backend, threads=config.compute_threads)
    metrics = Metrics(CollectorRegistry(), losses=LOSSES)
    metrics.describe(version=importlib.metadata.version("lossd"), backend=chosen.backend.name)
    servicer = LossServicer(config, chosen, metrics)
    health_servicer = health.HealthServicer()

    server = grpc.server(
        ThreadPoolExecutor(config.concurrent_calls, thread_name_prefix="lossd-call"),
        options=_options(config),
        maximum_concurrent_rpcs=config.concurrent_calls,
    )
    server.add_generic_rpc_handlers((servicer.handler(),))
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)

    address = _listen(server, config.address)
    metrics_server = _serve_metrics(metrics, config)
    server.start()
    for name in (health.OVERALL_HEALTH, SERVICE):
        health_servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    log.info("backend %s (%s)", chosen.backend.name, chosen.reason)
    return Server(
        address=address,
        metrics_url=_metrics_url(config, metrics_server),
        backend=chosen.backend,
        backend_reason=chosen.reason,
        _server=server,
        _health=health_servicer,
        _metrics_server=metrics_server,
        _grace_seconds=config.grace_seconds,
    )


def stop_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set; a second one ends the process, as it ordinarily would.

    Ask for it before the server starts: whoever reads that it is ready may end it at once.
    """
    told = threading.Event()

    def tell(number: int, frame: object) -> None:
        del frame
        signal.signal(number, signal.SIG_DFL)
        told.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, tell)
    return told


def _options(config: Config) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.message_size_bytes),
        ("grpc.max_send_message_length", -1),  # a reply is about as large as its request
        ("grpc.so_reuseport", 0),  # else two servers share a port without a word
        # What the bundled client's pings need; the default is one in five minutes.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _listen(server: grpc.Server, address: str) -> str:
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise AddressError(f"address must be free and valid, got {address}") from error
    if address.startswith("unix:"):
        return address
    return f"{address.rpartition(':')[0]}:{port}"


def _serve_metrics(metrics: Metrics, config: Config) -> WSGIServer | None:
    if config.metrics_port is None:
        return None
    try:
        return metrics.serve(config.metrics_host, config.metrics_port)
    except OSError as error:
        raise AddressError(
            f"metrics port must be free, got {config.metrics_port}: {error.strerror}"
        ) from error


def _metrics_url(config: Config, server: WSGIServer | None) -> str | None:
    return None if server is None else f"http://{config.metrics_host}:{server.server_port}/metrics"
