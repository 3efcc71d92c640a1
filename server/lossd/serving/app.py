"""The composition root: everything the server is made of, in reading order."""

import functools
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from lossd.backends import Backend
from lossd.backends.choose import choose
from lossd.engine import Engine
from lossd.errors import LossdError
from lossd.evaluation import METRICS
from lossd.losses import LOSSES
from lossd.networks import Networks, load
from lossd.serving import health, http
from lossd.serving.admission import Admission, Turns
from lossd.serving.allocator import keep_freed_memory
from lossd.serving.boundary import Boundary
from lossd.serving.config import Config
from lossd.serving.evaluation import EVALUATION_SERVICE, EvaluationServicer
from lossd.serving.health import Health, State
from lossd.serving.loss_requests import WEIGHTED_SUM
from lossd.serving.servicer import (
    SERVICE,
    SHARED_MEMORY_SERVICE,
    LossServicer,
    SharedMemoryServicer,
)
from lossd.serving.shared_memory import SharedMemory
from lossd.serving.telemetry import Telemetry
from lossd.serving.trial import Tried, try_out
from lossd.serving.versions import versions
from lossd.serving.watchdog import Watchdog

log = logging.getLogger(__name__)


class AddressError(LossdError):
    """The address cannot be listened on."""

    reason = "ADDRESS"


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs.  ``address`` and ``metrics_url`` are where it can be reached."""

    address: str
    metrics_url: str
    backend: Backend
    backend_reason: str
    _engine: Engine
    _config: Config
    _server: grpc.Server
    _health: Health
    _http: WSGIServer
    _shared: SharedMemory | None
    _watchdog: Watchdog

    @property
    def has_failed(self) -> bool:
        """Whether it is of no more use, so that only a new process will do."""
        return self._health.has_failed

    def stop(self) -> None:
        """Says that it goes, finishes what was accepted, and ends."""
        self._health.enter(State.DRAINING)
        log.info("draining")
        # Whoever balances load has to notice before calls are refused.
        time.sleep(self._config.drain_delay_seconds)
        self._server.stop(self._config.drain_seconds).wait()
        self._watchdog.close()
        self._engine.close()
        if self._shared is not None:
            self._shared.close()
        self._http.shutdown()
        self._http.server_close()
        log.info("stopped")


def start(config: Config, *, on_failure: Callable[[], None] = lambda: None) -> Server:
    """Starts a server.

    ``on_failure`` is called once if it fails for good, and only a new process will do.

    Raises:
        BackendUnavailable: if the backend cannot be used.
        NetworkError: if a network's file is missing or damaged.
        DirectoryError: if memory cannot be shared in the directory.
        UnsupportedError: or not on this machine.
        AddressError: if an address cannot be listened on.
    """
    keep_freed_memory()
    networks = networks_of(config)
    telemetry = Telemetry(CollectorRegistry(), losses=(*LOSSES, WEIGHTED_SUM), evaluated=METRICS)
    admission = Admission(calls=config.max_calls, request_bytes=config.max_inflight_bytes)
    telemetry.watch_inflight(lambda: admission.calls, lambda: admission.request_bytes)

    # Calls, what must be answered at once, and the rest (reflection) each have their own threads.
    calls = ThreadPoolExecutor(config.max_calls, thread_name_prefix="lossd-call")
    prompt = ThreadPoolExecutor(2, thread_name_prefix="lossd-prompt")
    rest = ThreadPoolExecutor(2, thread_name_prefix="lossd-rest")
    state = Health((SERVICE, EVALUATION_SERVICE), prompt, telemetry)
    pages = _serve_pages(config, telemetry, state)

    tried = _tried(config, networks)
    chosen = tried.chosen
    telemetry.describe(
        versions(),
        chosen.backend.name,
        fallback=chosen.is_fallback,
        losses_on_cpu=tried.faults,
    )
    turns = Turns(config.compute_threads)
    shared = _shared_memory(config, telemetry)
    servicer = LossServicer(config, tried, turns, telemetry, shared)
    evaluation = EvaluationServicer(config, turns, telemetry)
    sharing = {} if shared is None else SharedMemoryServicer(shared).methods()
    watchdog = Watchdog(config.max_call_seconds)
    boundary = Boundary(
        {**servicer.methods(), **evaluation.methods(), **sharing},
        streams=evaluation.streams(),
        conversations=servicer.conversations(),
        admission=admission,
        telemetry=telemetry,
        watchdog=watchdog,
        threads=calls,
        refusing_threads=prompt,
        device_lost=functools.partial(_fail, state, on_failure),
    )

    server = grpc.server(rest, handlers=[boundary, state.handler()], options=_options(config))
    if config.reflection:
        sharing_names = () if shared is None else (SHARED_MEMORY_SERVICE,)
        own = (SERVICE, EVALUATION_SERVICE, *sharing_names)
        names = (*own, health.SERVICE, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
    try:
        address = _listen(server, config.address)
    except AddressError:
        if shared is not None:
            shared.close()
        raise
    server.start()
    state.enter(State.READY)
    backend = chosen.backend
    log.info(
        "ready",
        extra={"backend": backend.name, "device": backend.device, "because": chosen.reason},
    )
    return Server(
        address=address,
        metrics_url=f"http://{config.metrics_host}:{pages.server_port}/metrics",
        backend=chosen.backend,
        backend_reason=chosen.reason,
        _engine=tried.engine,
        _config=config,
        _server=server,
        _health=state,
        _http=pages,
        _shared=shared,
        _watchdog=watchdog,
    )


def _tried(config: Config, networks: Networks) -> Tried:
    """What computes, tried out on this machine."""
    chosen = choose(config.backend, threads=config.compute_threads)
    tried = try_out(chosen, config, networks)
    for loss, fault in tried.faults.items():
        log.warning("loss is computed by the CPU", extra={"loss": loss, "because": fault})
    return tried


def _fail(state: Health, on_failure: Callable[[], None]) -> None:
    if state.fail():
        log.critical("device is lost, only a new process can use it")
        on_failure()


def networks_of(config: Config) -> Networks:
    """The operator's networks.

    Raises:
        NetworkError: if a file is missing or damaged.
    """
    by_name = load(config.networks) if config.networks else {}
    return Networks(by_name, config.max_network_bytes)


def _shared_memory(config: Config, telemetry: Telemetry) -> SharedMemory | None:
    if not config.shm_dir:
        return None
    shared = SharedMemory(
        config.shm_dir, segments=config.max_shm_segments, segment_bytes=config.max_shm_bytes
    )
    telemetry.watch_shared_memory(lambda: shared.segments, lambda: shared.segment_bytes)
    return shared


def _options(config: Config) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", config.max_message_bytes),
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


def _serve_pages(config: Config, telemetry: Telemetry, state: Health) -> WSGIServer:
    pages = http.application(telemetry.application(), state.state)
    try:
        return http.serve(config.metrics_host, config.metrics_port, pages)
    except OSError as error:
        raise AddressError(
            f"metrics port must be free, got {config.metrics_port}: {error.strerror}"
        ) from error
