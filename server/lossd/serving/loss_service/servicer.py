"""The methods of ``LossService``: they decode, run and encode."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from lossd import chunks, sums, v1
from lossd.batch import Job
from lossd.engine import Result
from lossd.framing import Framed
from lossd.networks import Network
from lossd.serving.call import Call, Received
from lossd.serving.config import Config
from lossd.serving.evaluation_service import codec as evaluation_codec
from lossd.serving.evaluation_service.codec import Requested
from lossd.serving.loss_service import catalogue, stream
from lossd.serving.loss_service import metrics as loss_metrics
from lossd.serving.loss_service import replies as loss_replies
from lossd.serving.loss_service import requests as loss_requests
from lossd.serving.process.device_check import Tried
from lossd.serving.process.versions import versions
from lossd.serving.rpc.admission import Place, Turns
from lossd.serving.rpc.boundary import ConversationHandler, Handler
from lossd.serving.rpc.messages import parse, parse_framed, write_timing
from lossd.serving.shared_memory_service.lease import Loan
from lossd.serving.shared_memory_service.segments import SharedMemory
from lossd.serving.shared_memory_service.servicer import offer
from lossd.serving.telemetry import Telemetry
from lossd.serving.wire.reader import Limits
from lossd.v1 import loss_service_pb2

Request = Framed[v1.ComputeLossRequest]
Reply = Framed[v1.ComputeLossResponse]

SERVICE = loss_service_pb2.DESCRIPTOR.services_by_name["LossService"].full_name


class LossServicer:
    """Serves ``LossService`` with an engine."""

    def __init__(
        self,
        config: Config,
        tried: Tried,
        turns: Turns,
        telemetry: Telemetry,
        shared: SharedMemory | None = None,
    ) -> None:
        self._config = config
        self._shared = shared
        self._limits = Limits(tensors=config.max_tensors, axes=config.max_axes)
        self._chosen = tried.chosen
        self._engine = tried.engine
        self._turns = turns
        self._telemetry = telemetry

    def methods(self) -> Mapping[str, Handler]:
        """Returns the methods by full name."""
        handlers = {
            "ComputeLoss": self.compute_loss,
            "ListLosses": self.list_losses,
            "GetServerInfo": self.get_server_info,
        }
        return {f"/{SERVICE}/{name}": handler for name, handler in handlers.items()}

    def conversations(self) -> Mapping[str, ConversationHandler]:
        """Returns the methods that take a stream and answer with one."""
        return {f"/{SERVICE}/StreamLoss": self.stream_loss}

    def compute_loss(self, received: Received, call: Call) -> bytes:
        """Computes one batch."""
        loan = Loan(self._shared, call.hold)

        def request() -> Request:
            return parse_framed(v1.ComputeLossRequest, received.take())

        reply = self._reply(request, call, loan)
        if loan.transport == "shared_memory":
            self._telemetry.transferred(loan.transport, loan.request_bytes, loan.reply_bytes)
        with call.phase("encode"):
            return reply.serialise()

    def stream_loss(self, messages: Iterator[bytes], call: Call, place: Place) -> Iterator[bytes]:
        """Computes batches whose tensors come and go in chunks, one after the other."""
        for first in messages:
            call.renew()  # the wait for it counts for no phase
            started = time.perf_counter()
            yield from self._streamed(first, messages, call, place)
            self._telemetry.answered(call, "OK", time.perf_counter() - started)
            call.renew()

    def _streamed(
        self, first: bytes, messages: Iterator[bytes], call: Call, place: Place
    ) -> Iterator[bytes]:
        """Yields the answer to one call of a stream; its request is freed before that is sent."""
        # The bytes counted for the request stand for the answer until it has been read.
        with place.collecting() as collect:
            collect(len(first))
            with call.phase("decode"):
                assembly = stream.opened(first, self._limits, self._config.max_message_bytes)
            place.check(assembly.size_bytes)  # announcing them takes no room from others yet
            call.let_in()
            stream.fill(assembly, messages, collect)
            request_bytes = len(first) + assembly.size_bytes
            reply = self._reply(assembly.framed, call, Loan(None, call.hold))
            del assembly
            header, following = chunks.split(reply)
            self._telemetry.transferred("grpc", request_bytes, sum(map(len, following)))
            yield v1.StreamLossResponse(result=header).SerializeToString()
            yield from chunks.encoded_chunks(following)

    def _reply(self, read: Callable[[], Request], call: Call, loan: Loan) -> Reply:
        result, evaluated = self._computed(read, call, loan)
        with call.phase("encode"):
            reply = loss_replies.response(result, loan)
            reply.message.metrics.extend(one.write(reply.payloads) for one in evaluated)
            write_timing(reply.message.server_timing, call.seconds)
        return reply

    def _computed(
        self, read: Callable[[], Request], call: Call, loan: Loan
    ) -> tuple[Result, list[loss_metrics.Evaluated]]:
        """Computes result and metrics; frees the request before the reply takes as much memory."""
        with call.phase("decode"):
            request = read()
            label = self._telemetry.loss_label(request.message.loss.WhichOneof("kind") or "")
            call.labels["loss"] = label
            job = loss_requests.work(request, self._limits, loan)
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
        return result, evaluated

    def _evaluate(
        self, metrics: Sequence[Requested], job: Job, call: Call
    ) -> list[loss_metrics.Evaluated]:
        """Returns the metrics of a batch; without any it takes no time."""
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
        parse(v1.ListLossesRequest, received.take())
        return catalogue.list_losses().SerializeToString()

    def get_server_info(self, received: Received, call: Call) -> bytes:
        """Answers with versions, backend and limits."""
        del call
        parse(v1.GetServerInfoRequest, received.take())
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
                network_bytes=self._config.max_network_bytes,
            ),
            transports=["grpc"] if shared is None else ["grpc", "shared_memory"],
            shared_memory=None if shared is None else offer(shared),
            networks=[_described(found) for found in self._engine.networks.by_name.values()],
        )
        return reply.SerializeToString()


def _described(network: Network) -> v1.NetworkDescription:
    return v1.NetworkDescription(
        name=network.name,
        architecture=network.architecture,
        channels=network.channels,
        layers=network.layers,
        lpips_layers=network.heads.layers if network.heads else (),
        sha256=network.sha256,
    )
