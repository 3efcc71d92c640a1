"""The methods of ``LossService``, which decode, run and encode, and of ``SharedMemoryService``."""

from collections.abc import Mapping, Sequence

from lossd import sums, v1
from lossd.backends.choose import Chosen
from lossd.batch import Job
from lossd.engine import Engine, Result
from lossd.serving import catalogue, codec, evaluation_codec, loss_metrics
from lossd.serving.admission import Turns
from lossd.serving.boundary import Handler
from lossd.serving.call import Call, Received
from lossd.serving.config import Config
from lossd.serving.evaluation_codec import Requested
from lossd.serving.loan import Loan
from lossd.serving.shared_memory import SharedMemory
from lossd.serving.telemetry import Telemetry
from lossd.serving.versions import versions
from lossd.v1 import loss_service_pb2, shared_memory_service_pb2

SERVICE = loss_service_pb2.DESCRIPTOR.services_by_name["LossService"].full_name
_services = shared_memory_service_pb2.DESCRIPTOR.services_by_name
SHARED_MEMORY_SERVICE = _services["SharedMemoryService"].full_name


class LossServicer:
    """Serves ``LossService`` with an engine."""

    def __init__(
        self,
        config: Config,
        chosen: Chosen,
        turns: Turns,
        telemetry: Telemetry,
        shared: SharedMemory | None = None,
    ) -> None:
        self._config = config
        self._shared = shared
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

    def compute_loss(self, received: Received, call: Call) -> bytes:
        """Computes one batch."""
        loan = Loan(self._shared, call.hold)
        result, evaluated = self._computed(received, call, loan)
        with call.phase("encode"):
            reply = codec.response(result, loan)
            reply.message.metrics.extend(one.write(reply.payloads) for one in evaluated)
            codec.write_timing(reply.message.server_timing, call.seconds)
            return reply.serialise()

    def _computed(
        self, received: Received, call: Call, loan: Loan
    ) -> tuple[Result, list[loss_metrics.Evaluated]]:
        """Result and metrics; the request is let go before the reply needs as much memory again."""
        with call.phase("decode"):
            request = codec.parse_framed(v1.ComputeLossRequest, received.take())
            label = self._telemetry.loss_label(request.message.loss.WhichOneof("kind") or "")
            call.labels["loss"] = label
            job = codec.work(request, self._limits, loan)
            specs = request.message.metrics
            call.labels["metrics"] = self._telemetry.metric_labels(evaluation_codec.kinds(specs))
            metrics = loss_metrics.requested(specs, job) if isinstance(job, Job) else []
        with self._turns.turn(call):
            with call.phase("compute"):
                result = sums.run(
                    self._engine, job, allocate=loan.allocate, checkpoint=call.checkpoint
                )
            evaluated = self._evaluate(metrics, job, call) if isinstance(job, Job) else []
        loan.check()
        self._telemetry.computed(
            label,
            result.backend,
            examples=result.example_count,
            nonfinite=len(result.nonfinite_examples),
        )
        if loan.transport == "shared_memory":
            self._telemetry.shared(loan.request_bytes, loan.reply_bytes)
        return result, evaluated

    def _evaluate(
        self, metrics: Sequence[Requested], job: Job, call: Call
    ) -> list[loss_metrics.Evaluated]:
        """The metrics of a batch; without any it takes no time."""
        if not metrics:
            return []
        with call.phase("evaluate"):
            evaluated = loss_metrics.evaluate(metrics, job, call.checkpoint)
        for one in evaluated:
            self._telemetry.evaluated(one.requested.metric.name, one.state.example_count)
        return evaluated

    def list_losses(self, received: Received, call: Call) -> bytes:
        """Answers with the catalogue."""
        del call
        codec.parse(v1.ListLossesRequest, received.take())
        return catalogue.list_losses().SerializeToString()

    def get_server_info(self, received: Received, call: Call) -> bytes:
        """Answers with versions, backend and limits."""
        del call
        codec.parse(v1.GetServerInfoRequest, received.take())
        backend, shared = self._chosen.backend, self._shared
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
            transports=["grpc"] if shared is None else ["grpc", "shared_memory"],
            shared_memory=None if shared is None else _offer(shared),
        )
        return reply.SerializeToString()


def _offer(shared: SharedMemory) -> v1.SharedMemoryOffer:
    return v1.SharedMemoryOffer(
        directory=shared.directory,
        beacon=shared.beacon,
        beacon_content=shared.beacon_content,
        segment_bytes=shared.max_bytes,
        segments=shared.max_segments,
    )


class SharedMemoryServicer:
    """Serves ``SharedMemoryService``."""

    def __init__(self, shared: SharedMemory) -> None:
        self._shared = shared

    def methods(self) -> Mapping[str, Handler]:
        """The methods by full name."""
        handlers = {"AttachSegment": self.attach_segment, "DetachSegment": self.detach_segment}
        return {f"/{SHARED_MEMORY_SERVICE}/{name}": handler for name, handler in handlers.items()}

    def attach_segment(self, received: Received, call: Call) -> bytes:
        """Takes a file as a segment."""
        del call
        request = codec.parse(v1.AttachSegmentRequest, received.take())
        token = self._shared.attach(request.name, request.size)
        return v1.AttachSegmentResponse(segment=token).SerializeToString()

    def detach_segment(self, received: Received, call: Call) -> bytes:
        """Lets a segment go."""
        del call
        self._shared.detach(codec.parse(v1.DetachSegmentRequest, received.take()).segment)
        return v1.DetachSegmentResponse().SerializeToString()
