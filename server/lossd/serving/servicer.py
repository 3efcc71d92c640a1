"""The methods of ``LossService``: decode, run, encode."""

import importlib.metadata
import platform
import time

import grpc

from lossd import tensors, v1
from lossd.backends.choose import Chosen
from lossd.engine import Engine
from lossd.serving import catalogue, codec
from lossd.serving.boundary import Call, guarded
from lossd.serving.config import Config
from lossd.serving.telemetry import Metrics
from lossd.v1 import loss_service_pb2

SERVICE = loss_service_pb2.DESCRIPTOR.services_by_name["LossService"].full_name
_LIBRARIES = ("grpcio", "protobuf", "numpy", "cupy-cuda12x", "cupy-cuda13x")


class LossServicer:
    """Serves ``LossService`` with an engine."""

    def __init__(self, config: Config, chosen: Chosen, metrics: Metrics) -> None:
        self._config = config
        self._chosen = chosen
        self._engine = Engine(chosen.backend)
        self._metrics = metrics

    def compute_loss(self, data: bytes, call: Call) -> bytes:
        """Computes one batch."""
        started = time.perf_counter()
        request = codec.parse(v1.ComputeLossRequest, data)
        label = self._metrics.loss_label(request.loss.WhichOneof("kind") or "")
        call.labels["loss"] = label
        job = codec.job(request)
        decoded = time.perf_counter()
        result = self._engine.run(job, checkpoint=call.checkpoint)
        computed = time.perf_counter()
        reply = codec.response(result)
        reply.server_timing.decode.FromNanoseconds(round((decoded - started) * 1e9))
        reply.server_timing.compute.FromNanoseconds(round((computed - decoded) * 1e9))
        encoded = reply.SerializeToString()
        self._metrics.examples.labels(label).inc(result.example_count)
        self._metrics.nonfinite.labels(label).inc(len(result.nonfinite_examples))
        self._metrics.duration.labels(label).observe(time.perf_counter() - started)
        return encoded

    def list_losses(self, data: bytes, call: Call) -> bytes:
        """Answers with the catalogue."""
        del call
        codec.parse(v1.ListLossesRequest, data)
        return catalogue.list_losses().SerializeToString()

    def get_server_info(self, data: bytes, call: Call) -> bytes:
        """Answers with versions, backend and limits."""
        del call
        codec.parse(v1.GetServerInfoRequest, data)
        backend = self._chosen.backend
        reply = v1.GetServerInfoResponse(
            version=importlib.metadata.version("lossd"),
            backend=backend.name,
            backend_reason=self._chosen.reason,
            device=backend.device,
            libraries=_libraries(),
            limits=v1.Limits(
                message_size_bytes=self._config.message_size_bytes,
                tensors=codec.MAX_TENSORS,
                axes=tensors.MAX_AXES,
                concurrent_calls=self._config.concurrent_calls,
            ),
            transports=["grpc"],
        )
        return reply.SerializeToString()

    def observe(self, call: Call, status: str) -> None:
        """Counts a call that has ended."""
        if "loss" in call.labels:
            self._metrics.requests.labels(call.labels["loss"], status).inc()

    def handler(self) -> grpc.GenericRpcHandler:
        """The methods, as gRPC wants them."""
        handlers = {
            "ComputeLoss": self.compute_loss,
            "ListLosses": self.list_losses,
            "GetServerInfo": self.get_server_info,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE, {name: guarded(method, self.observe) for name, method in handlers.items()}
        )


def _libraries() -> list[v1.LibraryVersion]:
    found = [v1.LibraryVersion(name="python", version=platform.python_version())]
    for name in _LIBRARIES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(v1.LibraryVersion(name=name, version=version))
    return found
