"""Whether calls are welcome, told to gRPC's health checking, HTTP and the metrics alike.

Health is answered by threads of its own.  On those of the calls it would wait behind them, and a
kubelet would kill the pod exactly when it is busy.
"""

import enum
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2

from lossd.serving.boundary import Pinned
from lossd.serving.telemetry import Telemetry

SERVICE = health.SERVICE_NAME
Request, Response = health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse


class State(enum.Enum):
    """The life of a server."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


class Health:
    """The state of one server.  ``services`` are the names that may be asked for."""

    def __init__(
        self, services: Iterable[str], threads: ThreadPoolExecutor, telemetry: Telemetry
    ) -> None:
        self._names = (health.OVERALL_HEALTH, *services)
        self._threads = threads
        self._telemetry = telemetry
        self._servicer = health.HealthServicer(experimental_thread_pool=threads)
        self._lock = threading.Lock()
        self._state = State.STARTING
        self.enter(State.STARTING)

    def state(self) -> str:
        """The state, in a word."""
        return self._state.value

    @property
    def has_failed(self) -> bool:
        """Whether the server failed for good."""
        return self._state is State.FAILED

    def enter(self, state: State) -> None:
        """Tells everyone of a new state; none follows a failure."""
        with self._lock:
            if not self.has_failed:
                self._tell(state)

    def fail(self) -> bool:
        """Fails for good; returns whether that is news, of a server that was not ending anyway."""
        with self._lock:
            if self._state in {State.DRAINING, State.FAILED}:
                return False
            self._tell(State.FAILED)
            return True

    def _tell(self, state: State) -> None:
        self._state = state
        ready = state is State.READY
        self._telemetry.ready(ready=ready)
        for name in self._names:
            self._servicer.set(name, Response.SERVING if ready else Response.NOT_SERVING)

    def handler(self) -> grpc.GenericRpcHandler:
        """The methods of ``grpc.health.v1.Health``."""
        check = Pinned(self._servicer.Check, self._threads)
        coding = {
            "request_deserializer": Request.FromString,
            "response_serializer": Response.SerializeToString,
        }
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(check, **coding),
            # Watching takes no thread while nothing changes.
            "Watch": grpc.unary_stream_rpc_method_handler(self._servicer.Watch, **coding),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)
