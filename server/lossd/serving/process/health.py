"""The state of the server, for gRPC's health checking, HTTP and the metrics alike.

Why not the servicer of ``grpcio-health-checking``: its ``Watch`` holds a lock while it waits until
a status has been sent, and its callback for a watcher that leaves waits for the same lock, in the
only thread that would report the status as sent.  Clients that come and go make the two wait for
each other, and the server never answers again (grpc/grpc#43403).  Here no lock is held while
anything is sent, and a watcher takes a thread only while a status is sent to it.
"""

import enum
import functools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import grpc
from grpc_health.v1 import health_pb2

from lossd.serving.rpc.prompt import Prompt, Send
from lossd.serving.telemetry import Telemetry

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
OVERALL = ""  # the name that stands for the whole server
Request: TypeAlias = health_pb2.HealthCheckRequest
Response: TypeAlias = health_pb2.HealthCheckResponse


class ServerState(enum.Enum):
    """The states in the life of a server."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(slots=True, eq=False)
class _Watcher:
    """A caller that is sent each new status of a service.

    ``told`` is the last one, and ``is_being_told`` whether a thread is sending one: only one at a
    time does, so that statuses stay in order and a slow reader takes one thread.
    """

    service: str
    context: grpc.ServicerContext
    send: Send
    told: int | None = None
    is_being_told: bool = True

    def end(self) -> None:
        """Ends the stream."""
        self.context.set_code(grpc.StatusCode.UNAVAILABLE)
        self.context.set_details("server must go on, got one that ends")
        self.send(None)


class Health:
    """The state of one server.  ``services`` are the names that may be asked for."""

    def __init__(self, services: Iterable[str], prompt: Prompt, telemetry: Telemetry) -> None:
        self._services = frozenset((OVERALL, *services))
        self._threads = prompt.threads
        self._telemetry = telemetry
        # Held for a moment only: gRPC's own thread waits for it when a watcher leaves.
        self._lock = threading.Lock()
        self._watchers: set[_Watcher] = set()
        self._is_closed = False
        self._state = ServerState.STARTING
        self.enter(ServerState.STARTING)
        prompt.answer(f"/{SERVICE}/Check", Request, self._check)
        prompt.subscribe(f"/{SERVICE}/Watch", Request, self._watch)

    def state(self) -> str:
        """Returns the state, in a word."""
        return self._state.value

    @property
    def has_failed(self) -> bool:
        """Whether the server failed for good."""
        return self._state is ServerState.FAILED

    @property
    def is_starting(self) -> bool:
        """Whether the server was never ready."""
        return self._state is ServerState.STARTING

    def enter(self, state: ServerState) -> None:
        """Changes the state and tells everyone; no state follows a failure."""
        with self._lock:
            if self.has_failed:
                return
            self._set(state)
        self._tell_all()

    def fail(self) -> bool:
        """Fails for good; returns False for a server that was ending or had failed already."""
        with self._lock:
            if self._state in {ServerState.DRAINING, ServerState.FAILED}:
                return False
            self._set(ServerState.FAILED)
        self._tell_all()
        return True

    def close(self) -> None:
        """Ends the streams of all watchers, once they know the last state."""
        with self._lock:
            self._is_closed = True
        self._tell_all()

    def _set(self, state: ServerState) -> None:
        self._state = state
        self._telemetry.ready(ready=state is ServerState.READY)

    def _status(self, service: str) -> int | None:
        """Returns the status of a service; None for an unknown one."""
        if service not in self._services:
            return None
        ready = self._state is ServerState.READY
        return int(Response.SERVING if ready else Response.NOT_SERVING)

    def _check(self, requests: Iterator[Request], context: grpc.ServicerContext) -> Response:
        service = _only(requests, context).service
        status = self._status(service)
        if status is None:
            context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"service must be one of {sorted(self._services)}, got {service[:100]!r}",
            )
        return Response(status=status)

    def _watch(
        self, requests: Iterator[Request], context: grpc.ServicerContext, send: Send
    ) -> None:
        watcher = _Watcher(_only(requests, context).service, context, send)
        with self._lock:
            self._watchers.add(watcher)
        forget = functools.partial(self._forget, watcher)
        if not context.add_callback(forget):  # it has left already
            forget()
        self._tell(watcher)

    def _forget(self, watcher: _Watcher) -> None:
        with self._lock:
            self._watchers.discard(watcher)

    def _tell_all(self) -> None:
        with self._lock:
            idle = [watcher for watcher in self._watchers if not watcher.is_being_told]
            for watcher in idle:
                watcher.is_being_told = True
        for watcher in idle:
            self._threads.start(functools.partial(self._tell, watcher), watcher.context.cancel)

    def _tell(self, watcher: _Watcher) -> None:
        """Sends the latest status until nothing is new; intermediate changes may be skipped."""
        while (tell := self._news(watcher)) is not None:
            tell()

    def _news(self, watcher: _Watcher) -> Callable[[], None] | None:
        with self._lock:
            known = self._status(watcher.service)
            status = int(Response.SERVICE_UNKNOWN) if known is None else known
            is_gone = watcher not in self._watchers
            if not is_gone and status != watcher.told:
                watcher.told = status
                return functools.partial(watcher.send, Response(status=status))
            if not is_gone and self._is_closed:
                self._watchers.discard(watcher)
                return watcher.end
            watcher.is_being_told = False
            return None


def _only(requests: Iterator[Request], context: grpc.ServicerContext) -> Request:
    request = next(requests, None)
    if request is None:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "request must be one message, got none")
    return request
