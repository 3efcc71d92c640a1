"""The composition root: makes all parts of the server, in reading order."""

import errno
import functools
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from prometheus_client import CollectorRegistry

from lossd.backends import Backend
from lossd.backends.choose import choose
from lossd.engine import Engine
from lossd.errors import ServiceError
from lossd.evaluation import METRICS
from lossd.losses import LOSSES
from lossd.networks import Networks, load
from lossd.serving import addresses
from lossd.serving.access import entrance
from lossd.serving.access.certificates import Pair
from lossd.serving.access.entrance import Entrance
from lossd.serving.access.gate import Gate, everybody
from lossd.serving.access.reloading import Reloaded, Reloader
from lossd.serving.addresses import AddressError
from lossd.serving.caller import HERE, Caller
from lossd.serving.config import Config, ConfigError
from lossd.serving.evaluation_service.servicer import EVALUATION_SERVICE, EvaluationServicer
from lossd.serving.loss_service.requests import WEIGHTED_SUM
from lossd.serving.loss_service.servicer import SERVICE, LossServicer
from lossd.serving.process import health, http
from lossd.serving.process.allocator import Relief, keep_freed_memory
from lossd.serving.process.device_check import CheckedDevice, check_device
from lossd.serving.process.health import Health, ServerState
from lossd.serving.process.http import PageServer
from lossd.serving.process.pulse import Pulse
from lossd.serving.process.versions import versions
from lossd.serving.rpc import reflection
from lossd.serving.rpc.admission import Admission, ComputeSlots
from lossd.serving.rpc.boundary import Boundary
from lossd.serving.rpc.prompt import Prompt
from lossd.serving.rpc.shares import Shares, let_in_by, three_quarters
from lossd.serving.rpc.threads import Threads
from lossd.serving.rpc.watchdog import Watchdog
from lossd.serving.shared_memory_service.segments import SharedMemory
from lossd.serving.shared_memory_service.servicer import SERVICE as SHARED_MEMORY_SERVICE
from lossd.serving.shared_memory_service.servicer import SharedMemoryServicer
from lossd.serving.telemetry import Telemetry

if TYPE_CHECKING:
    from lossd.serving.tracing import Tracing

log = logging.getLogger(__name__)

# Seconds that gRPC may take to end calls once it has been told to.
_CUTTING_SECONDS = 0.5
# Seconds that an old connection lives on after the last of its calls must have ended.
_AFTER_CALLS_SECONDS = 10.0
# How often those are looked for, at least, who take too long.
_LOOKING_SECONDS = 5.0
# Seconds for which calls that come while it ends are refused, until none comes.
_REFUSING_SECONDS = 0.4


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
    _pulse: Pulse
    _boundary: Boundary
    _relief: Relief
    _http: PageServer
    _shared: SharedMemory | None
    _watchdogs: tuple[Watchdog, ...]
    _reloader: Reloader
    _tracing: "Tracing | None"

    def stop(self, *, in_doubt: bool = False) -> bool:
        """Announces the end, finishes the calls that were accepted, and stops.

        Returns whether gRPC stopped.  With ``in_doubt``, first checks whether gRPC still answers:
        if not, there is nothing to wait for.
        """
        self._health.enter(ServerState.DRAINING)
        log.info("draining")
        is_done = (not in_doubt or self._pulse.check()) and self._drain()
        self._pulse.close()
        self._relief.close()
        for watchdog in self._watchdogs:
            watchdog.close()
        self._reloader.close()
        if self._tracing is not None:
            self._tracing.close()
        self._http.shutdown()
        self._http.server_close()
        log.info("stopped")
        return is_done

    def close(self) -> None:
        """Closes backend and shared memory, as soon as nothing is computed any more."""
        self._engine.close()
        if self._shared is not None:
            self._shared.close()

    def _drain(self) -> bool:
        # Load balancers have to notice before calls are refused.
        time.sleep(self._config.drain_delay_seconds)
        self._health.close()
        self._refuse_what_waits()
        patience = self._config.drain_seconds
        try:
            self._server.stop(patience)
        except RuntimeError as error:  # no thread to cut calls with; the end of the process does it
            log.error("calls cannot be cut", extra={"because": str(error)})  # noqa: TRY400 - as it says
        is_late = self._server.wait_for_termination(patience + _CUTTING_SECONDS)
        return not is_late

    def _refuse_what_waits(self) -> None:
        """Answers what came in and was not taken in: once told to stop, gRPC would cancel it.

        Its own call goes behind those that wait, so when it is answered all of them are.
        """
        self._boundary.close()
        deadline, seen = time.monotonic() + _REFUSING_SECONDS, -1
        while self._boundary.refused != seen and time.monotonic() < deadline:
            seen = self._boundary.refused
            self._pulse.check()


def start(
    config: Config,
    *,
    on_failure: Callable[[str], None] = lambda _: None,
    log_lines_lost: Callable[[], int] = lambda: 0,
) -> Server:
    """Starts a server.

    ``on_failure`` is called once, with the reason, if it fails for good, and only a new process
    will do.  ``log_lines_lost`` tells how many lines of the log nobody read.

    Raises:
        BackendUnavailable: if the backend cannot be used.
        NetworkError: if a network's file is missing or damaged.
        DirectoryError: if memory cannot be shared in the directory.
        UnsupportedError: if memory cannot be shared on this machine.
        AccessError: if a certificate, or a file that says who may come in, cannot be used.
        AddressError: if an address cannot be listened on.
        ThreadsError: if the system does not have enough threads.
        ConfigError: if there is to be tracing, and what it takes is not installed.
    """
    addresses.check_free(config.address)
    keep_freed_memory()
    networks = networks_of(config)
    telemetry = Telemetry(CollectorRegistry(), losses=(*LOSSES, WEIGHTED_SUM), evaluated=METRICS)
    admission = Admission(calls=config.max_calls, request_bytes=config.max_inflight_bytes)
    telemetry.limit(
        calls=config.max_calls,
        request_bytes=config.max_inflight_bytes,
        threads=config.compute_threads,
        segments=config.max_shm_segments if config.shm_dir else 0,
        segment_bytes=config.max_shm_bytes if config.shm_dir else 0,
    )
    telemetry.watch_log(log_lines_lost)
    tracing = _tracing(config)
    entered = _entered(config, telemetry)
    if config.is_open:
        log.warning("anybody may call: the address is open, and nobody has to prove who he is")
    telemetry.watch_inflight(lambda: admission.calls, lambda: admission.request_bytes)

    calls = Threads(config.max_calls, "lossd-call")
    refusing = Threads(2, "lossd-refuse")
    prompt = Prompt(refusing)
    state = Health((SERVICE, EVALUATION_SERVICE), prompt, telemetry)
    fail = functools.partial(_fail, state, on_failure)
    pulse = Pulse(functools.partial(fail, "gRPC must answer, got nothing from it"))
    pages = _serve_pages(config, telemetry, state, pulse, entered)

    checked = _checked(config, networks)
    chosen = checked.chosen
    telemetry.describe(
        versions(),
        chosen.backend.name,
        fallback=chosen.is_fallback,
        losses_on_cpu=checked.faults,
    )
    compute_slots = ComputeSlots(config.compute_threads)
    shared = _shared_memory(config, telemetry, chosen.backend)
    servicer = LossServicer(config, checked, compute_slots, telemetry, shared)
    evaluation = EvaluationServicer(config, compute_slots, telemetry)
    sharing = {} if shared is None else SharedMemoryServicer(shared).methods()
    watchdog = _ending_after(config.max_call_seconds)
    first_message = _ending_after(config.first_message_seconds)
    idle = _ending_after(config.idle_seconds)
    gate = entered.gate
    boundary = Boundary(
        {**servicer.methods(), **evaluation.methods(), **sharing},
        streams=evaluation.streams(),
        conversations=servicer.conversations(),
        admission=admission,
        telemetry=telemetry,
        watchdog=watchdog,
        threads=calls,
        refusing_threads=refusing,
        device_lost=functools.partial(fail, "the device must answer, got nothing from it"),
        let_in=(lambda *_: HERE) if gate is None else let_in_by(gate, Shares(config)),
        first_message=first_message,
        idle=idle,
        trace=None if tracing is None else tracing.begin,
    )
    if config.reflection:
        own = (SERVICE, EVALUATION_SERVICE, *(() if shared is None else (SHARED_MEMORY_SERVICE,)))
        admit = everybody if gate is None else functools.partial(_counted, gate, telemetry)
        reflection.serve((*own, health.SERVICE), prompt, admit)

    server = grpc.server(refusing, handlers=[boundary, prompt], options=_options(config))
    try:
        address, heard_at = _listen(server, config, entered)
    except AddressError:
        if shared is not None:
            shared.close()
        raise
    server.start()
    pulse.start(heard_at)
    state.enter(ServerState.READY)
    backend = chosen.backend
    log.info(
        "ready",
        extra={"backend": backend.name, "device": backend.device, "because": chosen.reason},
    )
    return Server(
        address=address,
        metrics_url=f"{pages.url}/metrics",
        backend=chosen.backend,
        backend_reason=chosen.reason,
        _engine=checked.engine,
        _config=config,
        _server=server,
        _health=state,
        _pulse=pulse,
        _boundary=boundary,
        _relief=Relief(admission),
        _http=pages,
        _shared=shared,
        _watchdogs=(watchdog, first_message, idle),
        _reloader=Reloader(entered.reloaded.values()),
        _tracing=tracing,
    )


def _tracing(config: Config) -> "Tracing | None":
    if not config.tracing:
        return None
    try:
        from lossd.serving.tracing import Tracing  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            "tracing must have OpenTelemetry, got none: pip install 'lossd[otel]'", field="tracing"
        ) from error
    return Tracing()


def _checked(config: Config, networks: Networks) -> CheckedDevice:
    """Returns the backends to compute with, after checking them on this machine."""
    chosen = choose(config.backend, threads=config.compute_threads)
    checked = check_device(chosen, config, networks)
    for loss, fault in checked.faults.items():
        log.warning("loss is computed by the CPU", extra={"loss": loss, "because": fault})
    return checked


def _fail(state: Health, on_failure: Callable[[str], None], reason: str) -> None:
    if state.fail():
        log.critical("only a new process can go on", extra={"because": reason})
        on_failure(reason)


def networks_of(config: Config) -> Networks:
    """Loads the operator's networks.

    Raises:
        NetworkError: if a file is missing or damaged.
    """
    by_name = load(config.networks) if config.networks else {}
    return Networks(by_name, config.max_network_bytes)


def _shared_memory(config: Config, telemetry: Telemetry, backend: Backend) -> SharedMemory | None:
    if not config.shm_dir:
        return None
    shared = SharedMemory(
        config.shm_dir,
        segments=config.max_shm_segments,
        segment_bytes=config.max_shm_bytes,
        owned_segments=config.caller_shm_segments or three_quarters(config.max_shm_segments),
        pin=backend.pin,
    )
    telemetry.watch_shared_memory(lambda: shared.segments, lambda: shared.segment_bytes)
    return shared


def _options(config: Config) -> list[tuple[str, int]]:
    limits = {
        "grpc.max_allowed_incoming_connections": config.max_connections,
        "grpc.max_concurrent_streams": config.max_connection_calls,
    }
    return [
        *_age_options(config),
        *((name, limit) for name, limit in limits.items() if limit),
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", -1),  # a reply is about as large as its request
        ("grpc.so_reuseport", 0),  # otherwise two servers could silently share a port
        # Allows the pings of the bundled client; the default is one in five minutes.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # A peer that is gone without a word is let go within a minute, idle or not.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 25_000),
        ("grpc.http2.ping_timeout_ms", 25_000),  # a minute by default, and the longer one counts
        ("grpc.http2.max_pings_without_data", 0),
    ]


def _age_options(config: Config) -> list[tuple[str, int]]:
    """A connection that is old takes no new calls, and ends when those under way have."""
    if not config.max_connection_age_seconds:
        return []
    grace = config.max_call_seconds + _AFTER_CALLS_SECONDS
    return [
        ("grpc.max_connection_age_ms", round(config.max_connection_age_seconds * 1000)),
        ("grpc.max_connection_age_grace_ms", round(grace * 1000)),
    ]


def _entered(config: Config, telemetry: Telemetry) -> Entrance:
    """How it is entered, with what the metrics say of its files."""
    entered = entrance.build(config, telemetry.reload_failed)
    telemetry.watch_files(entered.reloaded)
    for setting, pair in entered.certificates().items():
        telemetry.watch_certificate(setting, functools.partial(_expiry, pair))
    return entered


def _counted(
    gate: Gate, telemetry: Telemetry, method: str, context: grpc.ServicerContext
) -> Caller:
    """Who makes a call that the boundary does not see."""
    try:
        return gate.admit(method, context)
    except ServiceError as error:
        telemetry.rejected(error.reason)
        raise


def _expiry(pair: Reloaded[Pair]) -> float:
    return pair.value.expires


def _ending_after(seconds: float) -> Watchdog:
    return Watchdog(lambda: seconds, every=min(seconds / 10, _LOOKING_SECONDS))


def _listen(server: grpc.Server, config: Config, entered: Entrance) -> tuple[str, str]:
    """Where it can be reached, and where it hears itself in plain text."""
    address, credentials = config.address, entered.credentials()
    with addresses.taking(address):
        try:
            if credentials is None:
                port = server.add_insecure_port(address)
            else:
                port = server.add_secure_port(address, credentials)
            addresses.set_mode(address, addresses.parse_mode(config.socket_mode))
        except (RuntimeError, OSError) as error:
            raise AddressError(f"address must be free and valid, got {address}") from error
    reached = addresses.with_port(address, port)
    if credentials is None:
        return reached, reached
    # The gate lets nobody in who comes this way: it is not TLS.
    own = f"unix-abstract:lossd-pulse-{secrets.token_hex(16)}"
    server.add_insecure_port(own)
    return reached, own


def _serve_pages(
    config: Config, telemetry: Telemetry, state: Health, pulse: Pulse, entered: Entrance
) -> PageServer:
    host, port = config.metrics_host, config.metrics_port
    tls = entered.pages_tls
    pages = http.application(telemetry.application(), state.state, lambda: pulse.is_felt)
    try:
        return http.serve(host, port, pages, tls=None if tls is None else lambda: tls.value.context)
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            fault = f"metrics_host must be one of this machine, got {host}"
        else:
            fault = f"metrics port must be free, got {port}"
        raise AddressError(f"{fault}: {error.strerror}") from error
