"""The methods of ``LossService``: they decode, run and encode."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy.typing as npt

from lossd import chunks, sums, v1
from lossd.batch import Array, Job
from lossd.engine import Engine, Hold, Result
from lossd.framing import Framed
from lossd.plan import Plan
from lossd.serving.call import DEVICE_MEMORY, GRPC, SHARED_MEMORY, Call, Received
from lossd.serving.caller import Group
from lossd.serving.config import Config, job_names
from lossd.serving.device_memory_service.lease import NO_DEVICE, DeviceLease
from lossd.serving.device_memory_service.memory import DeviceMemory
from lossd.serving.evaluation_service import codec as evaluation_codec
from lossd.serving.evaluation_service.codec import Requested
from lossd.serving.loss_service import catalogue, stream
from lossd.serving.loss_service import metrics as loss_metrics
from lossd.serving.loss_service import replies as loss_replies
from lossd.serving.loss_service import requests as loss_requests
from lossd.serving.loss_service.curves import Curves
from lossd.serving.loss_service.headers import header_of
from lossd.serving.loss_service.planned import Planned, may_be_planned
from lossd.serving.loss_service.plans import Plans
from lossd.serving.loss_service.server_info import server_info
from lossd.serving.process.device_check import CheckedDevice
from lossd.serving.rpc.admission import AdmissionTicket, ComputeSlots
from lossd.serving.rpc.handlers import ConversationHandler, Handler
from lossd.serving.rpc.messages import parse, parse_framed, write_timing
from lossd.serving.shared_memory_service.lease import Lease
from lossd.serving.shared_memory_service.segments import SharedMemory
from lossd.serving.telemetry import Telemetry
from lossd.serving.wire.reader import Limits
from lossd.sums import SumJob
from lossd.v1 import loss_service_pb2

Request = Framed[v1.ComputeLossRequest]
Reply = Framed[v1.ComputeLossResponse]
Asked = tuple[Planned, Job, Sequence[Array | None]]  # a plan, and the data to compute by it

SERVICE = loss_service_pb2.DESCRIPTOR.services_by_name["LossService"].full_name


class LossServicer:
    """Serves ``LossService`` with an engine; ``installed`` are the versions of the libraries."""

    def __init__(
        self,
        config: Config,
        checked: CheckedDevice,
        compute_slots: ComputeSlots,
        telemetry: Telemetry,
        shared: SharedMemory | None = None,
        *,
        device: DeviceMemory | None = None,
        installed: Mapping[str, str],
    ) -> None:
        self._config = config
        self._shared = shared
        self._device = device
        self._limits = Limits(tensors=config.max_tensors, axes=config.max_axes)
        self._checked = checked
        self._engine = checked.engine
        self._installed = installed
        self._compute_slots = compute_slots
        self._telemetry = telemetry
        self._curves = Curves(telemetry, job_names(config.jobs))
        self._plans: Plans[Planned] = Plans()
        self._plans_by_header: Plans[Plan] = Plans()

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
        """Computes one batch: by a plan, unless its tensors are elsewhere or it asks for more."""
        with call.phase("decode"):
            asked = self._asked(received.take(), call)
        if isinstance(asked, Framed):
            given = [asked]
            del asked  # the list has the only reference, so that whoever takes it can free it
            return self._compute_unplanned(given, call)
        planned, job, arrays = asked
        result = self._by_plan(planned.plan, job, arrays, call)
        del asked, job, arrays  # the request is freed before the reply takes as much memory
        with call.phase("encode"):
            head = loss_replies.head(result, GRPC)
            loss_replies.fill_statuses(head, result)
            write_timing(head.server_timing, call.seconds)
            return planned.reply(head, result)

    def _compute_unplanned(self, given: list[Request], call: Call) -> bytes:
        """Computes the request in a list, which is taken out when it is read."""
        lease = Lease(self._granted(call), call.hold)
        device = self._device_lease(given[0].message, call)
        reply = self._reply(given.pop, call, lease, device)
        if device.is_used:
            self._telemetry.transferred(DEVICE_MEMORY, device.request_bytes, device.reply_bytes)
        if lease.transport == SHARED_MEMORY:
            self._telemetry.transferred(lease.transport, lease.request_bytes, lease.reply_bytes)
        with call.phase("encode"):
            return reply.serialise()

    def _asked(self, message: bytes, call: Call) -> Asked | Request:
        """Returns the plan of a request with its data, or the request where nothing is planned."""
        planned = self._plans.find(message)
        data = None if planned is None else planned.read(message)
        if planned is None or data is None:
            request = parse_framed(v1.ComputeLossRequest, message, call.hold, call.checkpoint)
            planned = self._planned(request, message, call)
            data = None if planned is None else planned.read(message)
            if planned is None or data is None:
                return request
        call.labels["loss"] = planned.plan.asked.loss.name
        return planned, *data

    def _planned(self, request: Request, message: bytes, call: Call) -> Planned | None:
        """Plans a request and keeps the plan, if all that it has beside one loss is tensors."""
        if not may_be_planned(request.message, self._limits.tensors):
            return None
        if request.payloads is None:
            request = Framed.parse(v1.ComputeLossRequest, message, least=0)
        call.labels["loss"] = request.message.loss.WhichOneof("kind") or ""
        job = loss_requests.read_job(request, self._limits)
        planned = Planned.of(request, self._engine.plan(job))
        if planned is not None and request.payloads is not None:
            self._plans.keep(message, request.payloads.places, planned)
        return planned

    def _by_plan(self, plan: Plan, job: Job, arrays: Sequence[Array | None], call: Call) -> Result:
        """Returns the result of a job; a brief one is computed at once."""
        if plan.is_brief:
            with call.phase("compute"):
                result = self._engine.compute(plan, job, arrays, checkpoint=call.checkpoint)
        else:
            with (
                self._compute_slots.slot(call),
                call.collecting() as hold,
                call.phase("compute"),
            ):
                result = self._engine.compute(
                    plan, job, arrays, checkpoint=call.checkpoint, hold=hold
                )
        self._count(job.loss.name, result, call)
        return result

    def _count(
        self, loss: str, result: Result, call: Call, device: DeviceLease = NO_DEVICE
    ) -> None:
        self._telemetry.computed(
            loss,
            result.backend,
            examples=result.example_count,
            nonfinite=len(result.nonfinite_examples),
        )
        self._curves.draw(loss, call, result, device.norm)

    def stream_loss(
        self, messages: Iterator[bytes], call: Call, ticket: AdmissionTicket
    ) -> Iterator[bytes]:
        """Computes batches whose tensors come and go in chunks, one after the other."""
        while (first := _begin(messages, call)) is not None:
            started = time.perf_counter()
            yield from self._streamed(first, messages, call, ticket)
            self._telemetry.answered(call, "OK", time.perf_counter() - started)
            call.renew()

    def _streamed(
        self, first: bytes, messages: Iterator[bytes], call: Call, ticket: AdmissionTicket
    ) -> Iterator[bytes]:
        """Yields the answer to one call of a stream; its request is freed before that is sent."""
        # The bytes counted for the request stand for the answer until it has been read.
        with ticket.collecting() as collect:
            collect(len(first))
            with call.phase("decode"):
                assembly = stream.open_call(
                    first,
                    self._limits,
                    self._config.max_message_bytes,
                    collect,
                    call.checkpoint,
                )
            ticket.check(assembly.size_bytes)  # announcing them takes no room from others yet
            call.let_in()
            call.awaits_chunk = True
            stream.fill(assembly, messages, collect, call.checkpoint)
            call.awaits_chunk = False
            request_bytes = len(first) + assembly.size_bytes
            reply = self._reply(assembly.framed, call, Lease(None, call.hold, is_taken=False))
            del assembly
            header, following = chunks.split(reply)
            payload_bytes = sum(map(len, following))
            self._telemetry.transferred(GRPC, request_bytes, payload_bytes)
            head = v1.StreamLossResponse(result=header).SerializeToString()
            # Metrics beside the loss may have more than the request.
            collect(max(0, len(head) + payload_bytes - request_bytes))
            yield head
            yield from chunks.encoded_chunks(following)

    def _granted(self, call: Call) -> SharedMemory | None:
        """Returns the memory that a caller may share."""
        return self._shared if call.caller.may(Group.SHARED_MEMORY) else None

    def _device_lease(self, request: v1.ComputeLossRequest, call: Call) -> DeviceLease:
        """Returns the device memory that a call may use."""
        is_granted = call.caller.may(Group.SHARED_MEMORY)
        return DeviceLease(
            self._device if is_granted else None,
            request.device,
            caller=call.caller.name,
            checkpoint=call.checkpoint,
            hold=call.hold,
        )

    def _reply(
        self,
        read: Callable[[], Request],
        call: Call,
        lease: Lease,
        device: DeviceLease = NO_DEVICE,
    ) -> Reply:
        result, evaluated = self._computed(read, call, lease, device)
        with call.phase("encode"):
            reply = loss_replies.response(result, lease, device)
            reply.message.metrics.extend(one.write(reply.payloads) for one in evaluated)
            write_timing(reply.message.server_timing, call.seconds)
        return reply

    def _computed(
        self, read: Callable[[], Request], call: Call, lease: Lease, device: DeviceLease
    ) -> tuple[Result, list[loss_metrics.MetricOutcome]]:
        """Computes result and metrics; frees the request before the reply takes as much memory."""
        with call.phase("decode"):
            found = self._request(read(), call, lease, device)
        with self._compute_slots.slot(call), call.collecting() as hold:
            with call.phase("compute"):
                run = found.runner(self._engine)
                # What arrays of a reply to the wire take is the engine's to count.
                is_wire = not (lease.is_used or device.is_used)
                result = run(
                    allocate=None if is_wire else lease.allocate,
                    place=functools.partial(_resident, device, found.stays),
                    checkpoint=call.checkpoint,
                    hold=hold,
                )
            evaluated = self._evaluate(found, call, hold)
        lease.check()
        if found.on_device:
            result = device.answered(result, found.on_device)
        self._count(call.labels["loss"], result, call, device)
        return result, evaluated

    def _request(
        self, request: Request, call: Call, lease: Lease, device: DeviceLease
    ) -> "_ReadRequest":
        """Reads a request, and labels the call as soon as it is known what it is about."""
        message = request.message
        call.labels["loss"] = self._telemetry.loss_label(message.loss.WhichOneof("kind") or "")
        job, plan = self._read(request, lease, device)
        on_device = loss_requests.names_on_device(message)
        stays = self._stays(message, job) if on_device else frozenset()
        job = replace(job, inputs=device.settled(job.inputs, stays)) if on_device else job
        kinds = evaluation_codec.kinds(message.metrics)
        call.labels["metrics"] = self._telemetry.metric_labels(kinds)
        metrics = loss_metrics.requested(message.metrics, job) if isinstance(job, Job) else []
        return _ReadRequest(job, plan, metrics, on_device, stays)

    def _read(
        self, request: Request, lease: Lease, device: DeviceLease
    ) -> tuple[Job | SumJob, Plan | None]:
        """Returns the job of a request, and its plan where there is one: a known one, or a new."""
        header = header_of(request.message, self._limits.tensors)
        plan = None if header is None else self._plans_by_header.find(header)
        if plan is not None:
            return loss_requests.read_job_like(plan.asked, request, self._limits, lease), plan
        job = loss_requests.read_request(request, self._limits, lease, device)
        if header is not None and isinstance(job, Job):
            plan = self._engine.plan(job)
            self._plans_by_header.keep(header, (), plan)
        return job, plan

    def _stays(self, request: v1.ComputeLossRequest, job: Job | SumJob) -> frozenset[str]:
        """Returns the inputs of a job that are used on the device where they lie."""
        if isinstance(job, SumJob) or len(request.metrics):
            return frozenset()
        return self._engine.resident(job)

    def _evaluate(
        self, found: "_ReadRequest", call: Call, hold: Hold
    ) -> list[loss_metrics.MetricOutcome]:
        """Returns the metrics of a batch; without any it takes no time."""
        if not found.metrics or isinstance(found.job, SumJob):
            return []
        with call.phase("evaluate"):
            evaluated = loss_metrics.evaluate(found.metrics, found.job, call.checkpoint, hold)
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
        parse(v1.GetServerInfoRequest, received.take())
        shared = self._granted(call)
        offered = shared if shared is not None and shared.is_offered else None
        device = None if offered is None else self._device
        made = server_info(self._config, self._checked, self._installed, offered, device)
        return made.SerializeToString()


@dataclass(frozen=True, slots=True)
class _ReadRequest:
    """A request that was read: its job with a plan, if there is one, and its metrics.

    ``on_device`` are the inputs that lie in device memory, and ``stays`` those that are used there.
    """

    job: Job | SumJob
    plan: Plan | None
    metrics: Sequence[Requested]
    on_device: frozenset[str]
    stays: frozenset[str]

    def runner(self, engine: Engine) -> Callable[..., Result]:
        """Returns what computes the job: by its plan, where it has one."""
        if self.plan is None or isinstance(self.job, SumJob):
            return functools.partial(sums.run, engine, self.job)
        arrays = self.plan.laid.arrays(self.job)
        return functools.partial(engine.compute, self.plan, self.job, arrays)


def _begin(messages: Iterator[bytes], call: Call) -> bytes | None:
    """Waits for the message that begins a batch, or the end; the wait counts for nothing."""
    try:
        return next(messages, None)
    finally:
        call.renew()


def _resident(
    device: DeviceLease,
    stays: frozenset[str],
    name: str,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
) -> Array | None:
    """Returns an array on the device for the gradient with respect to an input that stays there."""
    return device.in_region(shape, dtype) if name in stays else None
