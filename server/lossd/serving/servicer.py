"""The methods of ``LossService``: decode, run, encode."""

from collections.abc import Mapping

from lossd import v1
from lossd.backends.choose import Chosen
from lossd.engine import Engine
from lossd.serving import catalogue, codec
from lossd.serving.admission import Turns
from lossd.serving.boundary import Handler
from lossd.serving.call import Call
from lossd.serving.config import Config
from lossd.serving.telemetry import Telemetry
from lossd.serving.versions import versions
from lossd.v1 import loss_service_pb2

SERVICE = loss_service_pb2.DESCRIPTOR.services_by_name["LossService"].full_name


class LossServicer:
    """Serves ``LossService`` with an engine."""

    def __init__(self, config: Config, chosen: Chosen, turns: Turns, telemetry: Telemetry) -> None:
        self._config = config
        self._limits = codec.Limits(tensors=config.max_tensors, axes=config.max_axes)
        self._chosen = chosen
        self._engine = Engine(chosen.backend)
        self._turns = turns
        self._telemetry = telemetry

    def methods(self) -> Mapping[str, Handler]:
        """The methods by full name."""
        handlers = {
            "ComputeLoss": self.compute_loss,
            "ListLosses": self.list_losses,
            "GetServerInfo": self.get_server_info,
        }
        return {f"/{SERVICE}/{name}": handler for name, handler in handlers.items()}

    def compute_loss(self, data: bytes, call: Call) -> bytes:
        """Computes one batch."""
        with call.phase("decode"):
            request = codec.parse_framed(v1.ComputeLossRequest, data)
            label = self._telemetry.loss_label(request.message.loss.WhichOneof("kind") or "")
            call.labels["loss"] = label
            job = codec.job(request, self._limits)
        with self._turns.turn(call), call.phase("compute"):
            result = self._engine.run(job, checkpoint=call.checkpoint)
        self._telemetry.computed(
            label,
            result.backend,
            examples=result.example_count,
            nonfinite=len(result.nonfinite_examples),
        )
        with call.phase("encode"):
            reply = codec.response(result)
            codec.write_timing(reply.message.server_timing, call.seconds)
            return reply.serialise()

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
        found = versions()
        reply = v1.GetServerInfoResponse(
            version=found.pop("lossd"),
            backend=backend.name,
            backend_reason=self._chosen.reason,
            device=backend.device,
            libraries=[v1.LibraryVersion(name=name, version=v) for name, v in found.items() if v],
            limits=v1.Limits(
                message_size_bytes=self._config.max_message_bytes,
                tensors=self._config.max_tensors,
                axes=self._config.max_axes,
                concurrent_calls=self._config.max_calls,
                inflight_bytes=self._config.max_inflight_bytes,
            ),
            transports=["grpc"],
        )
        return reply.SerializeToString()
