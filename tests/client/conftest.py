"""A real server on this machine that answers what a test tells it to."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lossd import v1
from lossd.chunks import Assembly
from lossd.client.options import SERVICE, SHARED_MEMORY_SERVICE

REQUESTS: dict[str, Any] = {
    "ComputeLoss": v1.ComputeLossRequest,
    "ListLosses": v1.ListLossesRequest,
    "GetServerInfo": v1.GetServerInfoRequest,
    "AttachSegment": v1.AttachSegmentRequest,
    "DetachSegment": v1.DetachSegmentRequest,
}

Handler = Callable[[Any, grpc.ServicerContext], Any]
Health = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # without types
    """Tells whoever asks or watches how the server is.

    The library's own holds its lock while it tells a watcher, and gRPC's thread waits for that lock
    when a watcher leaves, so that a server could hang for ever (grpc/grpc#43403).
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._status = Health.SERVING

    def set(self, status: Any) -> None:
        with self._changed:
            self._status = status
            self._changed.notify_all()

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        del request, context
        return Health(status=self._status)

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802 - gRPC's name
        del request
        told = None
        while context.is_active():
            with self._changed:
                self._changed.wait_for(lambda: self._status != told, 0.05)  # noqa: B023 - at once
                status = self._status
            if status != told:
                yield Health(status=status)
                told = status


@dataclass(frozen=True)
class ScriptedServer:
    """Where a server listens, and the requests that it saw with their ids, by method."""

    address: str
    port: int
    health: HealthServicer
    seen: dict[str, list[Any]] = field(default_factory=dict)
    ids: dict[str, list[Any]] = field(default_factory=dict)

    def calls(self, method: str) -> int:
        return len(self.seen.get(method, ()))

    def set_serving(self, *, serving: bool) -> None:
        self.health.set(Health.SERVING if serving else Health.NOT_SERVING)


def answer_huber(_request: Any, _context: Any) -> Any:
    return v1.ComputeLossResponse(loss=1.5, backend="numpy")


def list_huber(_request: Any, _context: Any) -> Any:
    inputs = [v1.InputDescription(name=name) for name in ("predictions", "targets")]
    return v1.ListLossesResponse(losses=[v1.LossDescription(name="huber", inputs=inputs)])


def tell_version(_request: Any, _context: Any) -> Any:
    return v1.GetServerInfoResponse(version="1.2.3")


DEFAULTS = {"ComputeLoss": answer_huber, "ListLosses": list_huber, "GetServerInfo": tell_version}


@pytest.fixture
def serve() -> Any:
    """Starts a server; ``handlers`` replace the defaults by method."""
    running = []

    def start(address: str = "127.0.0.1:0", **handlers: Handler) -> ScriptedServer:
        pool = ThreadPoolExecutor(32)  # a watcher takes a thread
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)]
        server = grpc.server(pool, options=options)
        running.append((server, pool))
        port = server.add_insecure_port(address)
        target = address if address.startswith("unix:") else f"127.0.0.1:{port}"
        scripted = ScriptedServer(target, port, HealthServicer())
        scripted.set_serving(serving=True)
        health_pb2_grpc.add_HealthServicer_to_server(scripted.health, server)
        methods = {
            name: _method(name, handlers.get(name, default), scripted)
            for name, default in DEFAULTS.items()
        }
        methods["StreamLoss"] = _stream(handlers.get("StreamLoss", answer_huber), scripted)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        segments: dict[str, Any] = {
            name: _method(name, handlers[name], scripted)
            for name in ("AttachSegment", "DetachSegment")
            if name in handlers
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SHARED_MEMORY_SERVICE, segments),)
        )
        server.start()
        return scripted

    yield start
    for server, pool in running:
        server.stop(0).wait()
        pool.shutdown()


def _method(name: Any, handler: Any, scripted: ScriptedServer) -> Any:
    def behaviour(request: Any, context: Any) -> Any:
        scripted.seen.setdefault(name, []).append(request)
        known = dict(context.invocation_metadata()).get("x-request-id")
        scripted.ids.setdefault(name, []).append(known)
        return handler(request, context)

    return grpc.unary_unary_rpc_method_handler(
        behaviour,
        request_deserializer=REQUESTS[name].FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )


def _stream(handler: Any, scripted: ScriptedServer) -> Any:
    """The same for a batch in chunks; what is seen is the whole request, once it has come."""

    def behaviour(messages: Any, context: Any) -> Any:
        assembly = Assembly(v1.StreamLossRequest.FromString(next(messages)).call)
        seen = scripted.seen.setdefault("StreamLoss", [])
        seen.append(None)
        response = handler(None, context)
        context.send_initial_metadata((("x-request-id", "known"),))
        while not assembly.is_complete:
            assembly.take(v1.StreamLossRequest.FromString(next(messages)).chunk)
        seen[-1] = v1.ComputeLossRequest.FromString(assembly.framed().serialise())
        yield v1.StreamLossResponse(result=response).SerializeToString()

    return grpc.stream_stream_rpc_method_handler(behaviour)


@pytest.fixture
def status_bytes() -> Any:
    """Encodes the details of a failure as the metadata ``grpc-status-details-bin``."""

    def encode(*details: Any) -> bytes:
        packed = []
        for detail in details:
            packed.append(AnyMessage())
            packed[-1].Pack(detail)
        encoded: bytes = status_pb2.Status(details=packed).SerializeToString()
        return encoded

    return encode


@pytest.fixture
def refuse(status_bytes: Any) -> Any:
    """Makes a handler that fails: always, or the first ``times`` times, and then answers."""

    def make(code: str, message: str = "no", *details: Any, times: float = float("inf")) -> Handler:
        left, turn = times, threading.Lock()  # many threads may ask at once

        def handler(request: Any, context: Any) -> Any:
            nonlocal left
            with turn:
                left -= 1
                is_over = left < 0
            if is_over:
                return answer_huber(request, context)
            context.set_trailing_metadata((("grpc-status-details-bin", status_bytes(*details)),))
            return context.abort(grpc.StatusCode[code], message)

        return handler

    return make


@pytest.fixture
def info() -> Any:
    """Makes an ``ErrorInfo`` of lossd."""

    def make(reason: str, domain: str = "lossd", **metadata: str) -> Any:
        return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)

    return make
