"""The composition root: makes all parts of the server, in reading order."""

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from prometheus_client import CollectorRegistry

from lossd.backends import Backend
from lossd.backends.choose import choose
from lossd.errors import ServiceError
from lossd.evaluation import METRICS
from lossd.losses import LOSSES
from lossd.networks import Networks, load
from lossd.serving import addresses, free_addresses
from lossd.serving.access import entrance
from lossd.serving.access.certificates import Pair
from lossd.serving.access.entrance import Entrance
from lossd.serving.access.gate import Gate, everybody
from lossd.serving.access.reloading import Reloaded, Reloader
from lossd.serving.caller import Caller
from lossd.serving.cautions import cautions
from lossd.serving.config import Config, ConfigError
from lossd.serving.evaluation_service.servicer import EVALUATION_SERVICE
from lossd.serving.free_addresses import AddressError
from lossd.serving.loss_service.requests import WEIGHTED_SUM
from lossd.serving.loss_service.servicer import SERVICE
from lossd.serving.process import files, health, http
from lossd.serving.process.allocator import Relief, beyond, keep_freed_memory
from lossd.serving.process.device_check import CheckedDevice, check_device
from lossd.serving.process.gpu import gpu_at
from lossd.serving.process.health import Health, ServerState
from lossd.serving.process.http import PageServer
from lossd.serving.process.pulse import Pulse
from lossd.serving.process.versions import versions
from lossd.serving.rpc import doors, listening, reflection
from lossd.serving.rpc.admission import Admission
from lossd.serving.rpc.arrivals import Arrivals
from lossd.serving.rpc.boundary import Boundary
from lossd.serving.rpc.crowd import Crowd
from lossd.serving.rpc.dispatch import Dispatch
from lossd.serving.rpc.doorman import Doorman
from lossd.serving.rpc.giving_way import refusing_threads
from lossd.serving.rpc.listening import Listening
from lossd.serving.rpc.prompt import Prompt
from lossd.serving.rpc.resets import Resets
from lossd.serving.rpc.shares import Shares
from lossd.serving.rpc.threads import Threads
from lossd.serving.rpc.watchdog import Watchdogs
from lossd.serving.server import Server
from lossd.serving.services import Services, build_services
from lossd.serving.telemetry import Telemetry

if TYPE_CHECKING:
    from lossd.serving.tracing import Tracing

log = logging.getLogger(__name__)

# Messages on their way may always take this part of what may be in flight, and so many bytes: less
# could be what the process itself takes now and then.
_RESERVED_PART, _RESERVED_BYTES = 4, 128 << 20


def start(
    config: Config,
    *,
    on_failure: Callable[[str], None] = lambda _: None,
    log_lines_lost: Callable[[], int] = lambda: 0,
    before_serving: Callable[[], None] = lambda: None,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Server:
    """Starts a server.

    ``on_failure`` is called once, with the reason, if it fails for good, and only a new process
    will do.  ``log_lines_lost`` tells how many lines of the log nobody read.  ``before_serving`` is
    called after all that takes long, and before there is a file or a call: until then the process
    may end as it likes.  A server that is not ``is_wanted`` any more does not become ready.

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
    free_addresses.check_free(config.address)
    keep_freed_memory()
    networks = networks_of(config)
    admission = Admission(calls=config.max_calls, request_bytes=config.max_inflight_bytes)
    telemetry = _telemetry(config, admission, log_lines_lost)
    tracing = tracing_of(config)
    entered = _entered(config, telemetry)
    process = _process(config, telemetry, entered, on_failure)
    installed = versions()
    checked = _checked(config, networks, telemetry, installed)
    before_serving()
    services = build_services(config, checked, telemetry, installed)
    watchdogs = Watchdogs.ending_after(
        call=config.max_call_seconds,
        first_message=config.first_message_seconds,
        idle=config.idle_seconds,
    )
    entry = _entry(config, entered, watchdogs, telemetry, process.line)
    boundary = _boundary(
        services, process, watchdogs, entry, admission, telemetry=telemetry, tracing=tracing
    )
    _reflect(config, services, process, telemetry, entered)
    server, listening_at = _serve(config, services, process, boundary, entered)
    address = listening_at.address
    entry.resets.start(functools.partial(doors.let_wait, addresses.port_of(address)))
    if is_wanted():
        process.health.enter(ServerState.READY)
        _tell(checked)
    return Server(
        address=address,
        metrics_url=f"{process.pages.url}/metrics",
        backend=checked.chosen.backend,
        backend_reason=checked.chosen.reason,
        _engine=checked.engine,
        _config=config,
        _server=server,
        _sockets=listening_at.files,
        _health=process.health,
        _pulse=process.pulse,
        _boundary=boundary,
        _arrivals=_arrivals(config, admission, telemetry, watchdogs, process.prompt),
        _resets=entry.resets,
        _relief=_relief(config, admission, watchdogs, process.prompt),
        _http=process.pages,
        _shared=services.shared,
        _device=services.device,
        _watchdogs=watchdogs,
        _reloader=Reloader(entered.reloaded.values()),
        _tracing=tracing,
    )


@dataclass(frozen=True, slots=True)
class _Process:
    """The parts of a process whatever it serves: threads, health, a pulse and pages."""

    calls: Threads
    refusing: Threads
    line: Threads
    prompt: Prompt
    health: Health
    pulse: Pulse
    pages: PageServer
    fail: Callable[[str], None]


def _telemetry(
    config: Config, admission: Admission, log_lines_lost: Callable[[], int]
) -> Telemetry:
    telemetry = Telemetry(CollectorRegistry(), losses=(*LOSSES, WEIGHTED_SUM), evaluated=METRICS)
    telemetry.limit(
        calls=config.max_calls,
        request_bytes=config.max_inflight_bytes,
        threads=config.compute_threads,
        segments=config.max_shm_segments if config.shm_dir else 0,
        segment_bytes=config.max_shm_bytes if config.shm_dir else 0,
    )
    telemetry.watch_log(log_lines_lost)
    telemetry.watch_inflight(lambda: admission.calls, lambda: admission.request_bytes)
    return telemetry


def _process(
    config: Config, telemetry: Telemetry, entered: Entrance, on_failure: Callable[[str], None]
) -> _Process:
    """Makes all threads before anything is served, and serves the pages from now on."""
    calls = Threads(config.max_calls, "lossd-call")
    refusing = Threads(refusing_threads(config.max_calls), "lossd-refuse")
    line = Threads(1, "lossd-line")
    prompt = Prompt()
    state = Health((SERVICE, EVALUATION_SERVICE), prompt, telemetry)
    fail = functools.partial(_fail, state, on_failure)
    pulse = Pulse(functools.partial(fail, "gRPC must answer, got nothing from it"))
    pages = _serve_pages(config, telemetry, state, pulse, entered)
    return _Process(calls, refusing, line, prompt, state, pulse, pages, fail)


@dataclass(frozen=True, slots=True)
class _Entry:
    """Who is let in, what becomes of those who are not, and who serves which."""

    doorman: Doorman
    resets: Resets
    dispatch: Dispatch


def _entry(
    config: Config, entered: Entrance, watchdogs: Watchdogs, telemetry: Telemetry, line: Threads
) -> _Entry:
    crowd = Crowd(config.max_calls, watchdogs.of_silent, watchdogs.call)
    resets = Resets(config.max_connection_resets, told=telemetry.rejected)
    dispatch = Dispatch(crowd, lambda: resets.ended, line)
    return _Entry(Doorman(crowd, entered.gate, Shares(config)), resets, dispatch)


def _boundary(
    services: Services,
    process: _Process,
    watchdogs: Watchdogs,
    entry: _Entry,
    admission: Admission,
    *,
    telemetry: Telemetry,
    tracing: "Tracing | None",
) -> Boundary:
    return Boundary(
        services.unary(),
        streams=services.evaluation.streams(),
        conversations=services.losses.conversations(),
        admission=admission,
        telemetry=telemetry,
        watchdogs=watchdogs,
        threads=process.calls,
        refusing_threads=process.refusing,
        dispatch=entry.dispatch,
        device_lost=functools.partial(process.fail, "the device must answer, got nothing from it"),
        let_in=entry.doorman.let_in,
        turned_away=entry.doorman.turned_away,
        dropped=entry.resets.note,
        trace=None if tracing is None else tracing.begin,
    )


def _serve(
    config: Config, services: Services, process: _Process, boundary: Boundary, entered: Entrance
) -> tuple[grpc.Server, Listening]:
    """Returns a server of gRPC that serves, and where it listens."""
    most = files.connections_beside(config.max_shm_segments if config.shm_dir else 0)
    options = listening.options(config, most)
    server = grpc.server(process.refusing, handlers=[boundary], options=options)
    process.prompt.serve(server)
    try:
        found = listening.listen(server, config, entered)
    except AddressError:
        if services.shared is not None:
            services.shared.close()
        raise
    server.start()
    process.pulse.start(found.heard_at, lambda: boundary.looked_at)
    if found.socket is not None:
        lost = f"address must keep its socket, got none of this server at {config.address}"
        found.socket.watch(functools.partial(process.fail, lost))
    return server, found


def _reflect(
    config: Config, services: Services, process: _Process, telemetry: Telemetry, entered: Entrance
) -> None:
    if config.reflection:
        gate = entered.gate
        admit = everybody if gate is None else functools.partial(_counted, gate, telemetry)
        reflection.serve((*services.names, health.SERVICE), process.prompt, admit)


def _arrivals(
    config: Config,
    admission: Admission,
    telemetry: Telemetry,
    watchdogs: Watchdogs,
    prompt: Prompt,
) -> Arrivals:
    """Bounds what is on its way to half of what is free: gRPC has it twice while it hands it over.

    Some room it always has, whatever is computed.
    """
    reserved = max(config.max_inflight_bytes // _RESERVED_PART, _RESERVED_BYTES)

    def room() -> int:
        return max((config.max_inflight_bytes - admission.request_bytes) // 2, reserved)

    def ended(count: int) -> None:
        for _ in range(count):
            telemetry.rejected("TOO_MANY_BYTES")

    uncounted = beyond(lambda: admission.request_bytes, reserved)
    return Arrivals(uncounted, room, watchdogs, prompt.threads.watchdog, ended=ended)


def _relief(config: Config, admission: Admission, watchdogs: Watchdogs, prompt: Prompt) -> Relief:
    """Looks at the memory of the process while there are calls, and when the last is over."""
    watched = (watchdogs.call, prompt.threads.watchdog)
    relief = Relief(
        admission, config.max_inflight_bytes, is_idle=lambda: not any(map(len, watched))
    )
    for each in watched:
        each.when_watching(relief.wake)
    return relief


def _checked(
    config: Config, networks: Networks, telemetry: Telemetry, installed: Mapping[str, str]
) -> CheckedDevice:
    """Returns the backends to compute with, after checking them on this machine."""
    chosen = choose(config.backend, threads=config.compute_threads)
    checked = check_device(chosen, config, networks)
    for loss, fault in checked.faults.items():
        log.warning("loss is computed by the CPU", extra={"loss": loss, "because": fault})
    telemetry.describe(
        installed,
        chosen.backend.name,
        fallback=chosen.is_fallback,
        losses_on_cpu=checked.faults,
    )
    _watch_gpu(checked.chosen.backend, telemetry)
    return checked


def _watch_gpu(backend: Backend, telemetry: Telemetry) -> None:
    gpu = gpu_at(backend.bus_id)
    if gpu is not None:
        telemetry.watch_gpu(backend.device, gpu.memory_used, gpu.memory, gpu.utilization)


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


def tracing_of(config: Config) -> "Tracing | None":
    """Returns what sends traces, if they are to be sent.

    Raises:
        ConfigError: if what that takes is not installed, or cannot be used.
    """
    if not config.tracing:
        return None
    try:
        from lossd.serving.tracing import Tracing  # noqa: PLC0415 - an extra

        return Tracing()
    except ImportError as error:
        raise ConfigError(
            "tracing must have OpenTelemetry, got none: pip install 'lossd[otel]'", field="tracing"
        ) from error
    except ConfigError:
        raise
    except Exception as error:  # a variable that OpenTelemetry reads, some of them as it is loaded
        raise ConfigError(
            f"tracing must have variables OTEL_* that can be used, got: {error}", field="tracing"
        ) from error


def _entered(config: Config, telemetry: Telemetry) -> Entrance:
    """Returns how the server is entered, and has the metrics tell of the files that say so."""
    entered = entrance.build(config, telemetry.reload_failed)
    telemetry.watch_files({name: one.is_unusable for name, one in entered.reloaded.items()})
    for setting, pair in entered.certificates().items():
        telemetry.watch_certificate(setting, functools.partial(_expiry, pair))
    for said in cautions(config, entered):
        log.warning(said)
    return entered


def _counted(
    gate: Gate, telemetry: Telemetry, method: str, context: grpc.ServicerContext
) -> Caller:
    """Returns who makes a call that the boundary does not see, and counts a refusal."""
    try:
        return gate.admit(method, context)
    except ServiceError as error:
        telemetry.rejected(error.reason)
        raise


def _expiry(pair: Reloaded[Pair]) -> float:
    return pair.value.expires


def _tell(checked: CheckedDevice) -> None:
    backend, reason = checked.chosen.backend, checked.chosen.reason
    log.info("ready", extra={"backend": backend.name, "device": backend.device, "because": reason})


def _serve_pages(
    config: Config, telemetry: Telemetry, state: Health, pulse: Pulse, entered: Entrance
) -> PageServer:
    host, port = config.metrics_host, config.metrics_port
    tls = entered.pages_tls
    pages = http.application(telemetry.application(), state.state, lambda: pulse.is_felt)
    try:
        return http.serve(host, port, pages, tls=None if tls is None else lambda: tls.value.context)
    except OSError as error:
        raise free_addresses.pages_fault(host, port, error) from error
