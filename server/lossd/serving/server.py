"""A server that runs, and how it ends."""

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from lossd.backends import Backend
from lossd.engine import Engine
from lossd.serving.access.reloading import Reloader
from lossd.serving.config import Config
from lossd.serving.device_memory_service.memory import DeviceMemory
from lossd.serving.process.allocator import Relief
from lossd.serving.process.health import Health, ServerState
from lossd.serving.process.http import PageServer
from lossd.serving.process.pulse import Pulse
from lossd.serving.rpc.arrivals import Arrivals
from lossd.serving.rpc.boundary import Boundary
from lossd.serving.rpc.resets import Resets
from lossd.serving.rpc.watchdog import Watchdogs
from lossd.serving.shared_memory_service.segments import SharedMemory
from lossd.serving.socket_file import SocketFile

if TYPE_CHECKING:
    from lossd.serving.tracing import Tracing

log = logging.getLogger(__name__)

# Seconds that gRPC may take to end calls once it has been told to.
_CUTTING_SECONDS = 0.5
# Seconds that whoever has no call in flight may take, as for half of a handshake.
_LEAVING_SECONDS = 1.0
# Seconds for which calls that come while it ends are refused, until none comes; and where so many
# come that gRPC answers none of its own.
_REFUSING_SECONDS, _LONG_REFUSING_SECONDS = 0.4, 2.0
_MOMENT_SECONDS = 0.005
# Seconds that a caller has to read the last answers on its connection.
_LINGERING_SECONDS = 0.1


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
    _sockets: tuple[SocketFile, ...]
    _health: Health
    _pulse: Pulse
    _boundary: Boundary
    _arrivals: Arrivals
    _resets: Resets
    _relief: Relief
    _http: PageServer
    _shared: SharedMemory | None
    _device: DeviceMemory | None
    _watchdogs: Watchdogs
    _reloader: Reloader
    _tracing: "Tracing | None"

    def stop(self, *, in_doubt: bool = False) -> bool:
        """Announces the end, finishes the calls that were accepted, and stops.

        Returns whether gRPC stopped.  With ``in_doubt``, first checks whether gRPC still answers:
        if not, there is nothing to wait for.
        """
        delay = 0.0 if self._health.is_starting else self._config.drain_delay_seconds
        self._health.enter(ServerState.DRAINING)
        log.info("draining")
        is_done = (not in_doubt or self._pulse.check()) and self._drain(delay)
        self._pulse.close()
        self._arrivals.close()
        self._resets.close()
        self._relief.close()
        self._watchdogs.close()
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
        if self._device is not None:
            self._device.close()
        if self._shared is not None:
            self._shared.close()

    def _drain(self, delay: float) -> bool:
        # Load balancers that were told that it is ready have to notice before calls are refused.
        time.sleep(delay)
        had_calls = self._boundary.calls > 0
        patience, began = self._config.drain_seconds, time.monotonic()
        self._refuse_what_waits(max(_REFUSING_SECONDS, min(patience / 2, _LONG_REFUSING_SECONDS)))
        patience -= max(0.0, time.monotonic() - began - _REFUSING_SECONDS)
        self._cut_after(patience)
        for each in self._sockets:  # they lead nowhere any more
            each.close()
        until = time.monotonic() + patience
        if had_calls or self._boundary.calls or self._boundary.refused:
            self._outlast_calls(until)
        self._health.close()
        left = min(max(0.0, until - time.monotonic()), _LEAVING_SECONDS)
        self._cut_after(left)
        is_late = self._server.wait_for_termination(left + _CUTTING_SECONDS)
        return not is_late

    def _cut_after(self, seconds: float) -> None:
        """Has gRPC stop, and end then what it still waits for."""
        try:
            self._server.stop(seconds)
        except RuntimeError as error:  # no thread to do it with; the end of the process does it
            log.error("calls cannot be cut", extra={"because": str(error)})  # noqa: TRY400 - as it says

    def _outlast_calls(self, until: float) -> None:
        """Waits until all calls are over and their answers were read.

        gRPC closes a connection with the last of its calls, and a caller that writes to it at that
        moment loses all answers that it has not read.  A watch of health keeps it open until then.
        """
        while self._boundary.calls and time.monotonic() < until:
            self._boundary.end_rest()
            time.sleep(_LINGERING_SECONDS / 10)
        time.sleep(_LINGERING_SECONDS)

    def _refuse_what_waits(self, seconds: float) -> None:
        """Answers what came in and was not taken in: once told to stop, gRPC would cancel it.

        Its own call goes behind those that wait, so when it is answered all of them are; unless
        there are so many that gRPC refuses it at once.
        """
        self._boundary.close()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            seen = self._boundary.refused
            if not self._pulse.check():
                time.sleep(_MOMENT_SECONDS)
            elif self._boundary.refused == seen:
                return
