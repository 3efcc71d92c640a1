"""A server without sockets: its boundary and all that is behind it, called as gRPC would."""

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from prometheus_client import CollectorRegistry

from lossd.backends.choose import Chosen, cpu_backend
from lossd.engine import Engine
from lossd.evaluation import METRICS
from lossd.losses import LOSSES
from lossd.serving.caller import HERE
from lossd.serving.config import Config
from lossd.serving.evaluation_service.servicer import EvaluationServicer
from lossd.serving.loss_service.servicer import LossServicer
from lossd.serving.process.device_check import CheckedDevice
from lossd.serving.process.versions import versions
from lossd.serving.rpc.admission import Admission, ComputeSlots
from lossd.serving.rpc.boundary import Boundary
from lossd.serving.rpc.crowd import Crowd
from lossd.serving.rpc.dispatch import Dispatch
from lossd.serving.rpc.giving_way import Prospect
from lossd.serving.rpc.threads import Threads
from lossd.serving.rpc.watchdog import Watchdogs
from lossd.serving.shared_memory_service.segments import SharedMemory
from lossd.serving.shared_memory_service.servicer import SharedMemoryServicer
from lossd.serving.telemetry import Telemetry
from tests.drawn_networks import NETWORKS
from tests.fuzz.seeds import Seed

if TYPE_CHECKING:
    import grpc

_PATIENCE = 10.0  # seconds, the deadline of each call
_MIB = 1 << 20


class Aborted(Exception):  # noqa: N818 - what gRPC's abort does
    """Ends a handler."""


class Caller:
    """Stands for gRPC's context of one call, whose caller waits for some seconds."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata: Any = ()  # of the details; the context's is a function
        self.code = "OK"
        self._ends = time.monotonic() + _PATIENCE
        self._callbacks: list[Callable[[], None]] = []

    def is_active(self) -> bool:
        return True

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float:
        return self._ends - time.monotonic()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self._callbacks.append(callback)
        return True

    def cancel(self) -> None:
        raise AssertionError(self.method)

    def send_initial_metadata(self, _: object, /) -> None:
        """Takes it."""

    def set_trailing_metadata(self, _: object) -> None:
        """Takes it."""

    def abort_with_status(self, status: Any) -> None:
        self.code = status.code.name
        raise Aborted

    def end(self) -> None:
        """Does what gRPC does when the reply has left."""
        for callback in self._callbacks:
            callback()


class Inside:
    """Answers calls in this thread."""

    def __init__(self, boundary: Boundary, admission: Admission) -> None:
        self._boundary = boundary
        self._admission = admission

    def call(self, seed: Seed) -> tuple[str, list[bytes]]:
        """Returns the code and the replies."""
        caller = Caller(seed.method)
        handler: Any = self._boundary.service(cast("grpc.HandlerCallDetails", caller))
        behaviour = handler.stream_stream or handler.stream_unary
        replies: list[bytes] = []
        try:
            found = behaviour(iter(seed.messages), caller)
            replies += found if handler.response_streaming else [found]
        except Aborted:
            pass
        caller.end()
        return caller.code, replies

    def left(self) -> dict[str, int]:
        """Returns what is in flight while nobody calls: nothing, or it was lost."""
        return {"calls": self._admission.calls, "bytes": self._admission.request_bytes}


@contextmanager
def inside() -> Iterator[Inside]:
    """Makes a server of this process, with all services and networks."""
    config = Config(max_inflight_bytes=512 * _MIB, max_message_bytes=64 * _MIB)
    backend = cpu_backend(1)
    checked = CheckedDevice(Chosen(backend, "it is there"), Engine(backend, NETWORKS), {})
    telemetry = Telemetry(CollectorRegistry(), losses=LOSSES, evaluated=METRICS)
    admission = Admission(calls=config.max_calls, request_bytes=config.max_inflight_bytes)
    slots, line = ComputeSlots(1), Threads(1, "lossd-line")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, ThreadPoolExecutor(1) as threads:
        shared = SharedMemory(folder, segments=8, segment_bytes=_MIB, owned_segments=8)
        losses = LossServicer(config, checked, slots, telemetry, shared, installed=versions())
        evaluation = EvaluationServicer(config, slots, telemetry)
        methods = {
            **losses.methods(), **evaluation.methods(), **SharedMemoryServicer(shared).methods()
        }  # fmt: skip
        watchdogs = Watchdogs.ending_after(call=3600, first_message=3600, idle=3600)
        crowd = Crowd(config.max_calls, watchdogs.of_silent, watchdogs.call)
        boundary = Boundary(
            methods,
            streams=evaluation.streams(),
            conversations=losses.conversations(),
            admission=admission,
            telemetry=telemetry,
            watchdogs=watchdogs,
            threads=threads,
            refusing_threads=threads,
            dispatch=Dispatch(crowd, lambda: (), line),
            device_lost=lambda: None,
            let_in=lambda *_: HERE,
            turned_away=lambda *_: lambda: Prospect.NONE,
            dropped=lambda *_: None,
            trace=None,
        )
        yield Inside(boundary, admission)
        checked.engine.close()
        shared.close()
