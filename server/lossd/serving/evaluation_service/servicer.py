"""The methods of ``EvaluationService``."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from google.protobuf.message import Message

from lossd import v1
from lossd.engine import Hold
from lossd.errors import InvalidRequest, InvalidTensor, ServiceError, TooLarge
from lossd.evaluation import MetricBatch, State, StateError, merged
from lossd.framing import Payloads
from lossd.serving.call import Call, Received
from lossd.serving.config import Config
from lossd.serving.evaluation_service import catalogue
from lossd.serving.evaluation_service import codec as evaluation_codec
from lossd.serving.evaluation_service import state as evaluation_state
from lossd.serving.rpc.admission import AdmissionTicket, ComputeSlots, Gauge
from lossd.serving.rpc.handlers import Handler, StreamHandler
from lossd.serving.rpc.messages import parse, parse_framed, write_timing
from lossd.serving.telemetry import Telemetry
from lossd.serving.wire.reader import Limits, RequestReader
from lossd.v1 import evaluation_service_pb2

EVALUATION_SERVICE = evaluation_service_pb2.DESCRIPTOR.services_by_name[
    "EvaluationService"
].full_name


# Of what is in a reply: a message, its bytes, and what they are made in.
_COPIES = 4


class RunningEvaluation:
    """Metrics and their states so far.

    ``max_bytes`` bounds the states, which have to fit into a message; they count in the call for
    as long as it is in flight.
    """

    def __init__(
        self, first: v1.EvaluateRequest, limits: Limits, compute_slots: ComputeSlots, max_bytes: int
    ) -> None:
        self.metrics = evaluation_codec.requested(first.metrics)
        self.states = [State() for _ in self.metrics]
        self._limits = limits
        self._compute_slots = compute_slots
        self._max_bytes = max_bytes
        self._return_state = False
        self._held = 0

    @property
    def nbytes(self) -> int:
        """Its approximate size in memory."""
        return sum(state.nbytes for state in self.states)

    def add(self, part: v1.EvaluateRequest, call: Call, payloads: Payloads | None = None) -> None:
        """Adds the states and the batch of one part; ``payloads`` as ``RequestReader`` has them.

        What it takes on the way counts in the call for as long.

        Raises:
            InvalidRequest: if they break a rule, or do not fit those before.
            TooLarge: if the states become too large.
            Overloaded: if there is no room for them.
        """
        self._return_state |= part.return_state
        with call.collecting() as hold:
            self._add(part, call, hold, payloads)
        size = self.nbytes
        self._check_size(size)
        if size > self._held:
            call.hold(size - self._held)
            self._held = size

    def _add(
        self, part: v1.EvaluateRequest, call: Call, hold: Hold, payloads: Payloads | None
    ) -> None:
        added: list[list[State]] = [[state] for state in self.states]
        with call.phase("decode"):
            hold(evaluation_codec.sequence_bytes(part.batch))
            given = evaluation_state.read(part.states, self.metrics, hold, call.checkpoint)
            for index, state in given:
                added[index].append(state)
            batch = None
            if part.HasField("batch"):
                reader = RequestReader(payloads, self._limits)
                batch = evaluation_codec.batch(part.batch, self.metrics, call.checkpoint, reader)
        with self._compute_slots.slot(call), call.phase("compute"):
            if batch is not None:
                self._observe(batch, added, call, hold)
            call.checkpoint()
            try:
                self.states = [merged(states, call.checkpoint) for states in added]
            except StateError as error:
                raise _misfit(added, error, call, has_batch=batch is not None) from error

    def _observe(
        self, batch: MetricBatch, added: list[list[State]], call: Call, hold: Hold
    ) -> None:
        """Adds to the states of each metric what it sees in a batch."""
        had = size = self.nbytes
        for one, states in zip(self.metrics, added, strict=True):
            call.checkpoint()
            with call.collecting() as hold_metric:
                states.append(one.observe(batch, hold_metric))
            size += states[-1].nbytes
            self._check_size(size)
            hold(states[-1].nbytes)
        hold(size if had else 0)  # for their sums

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLarge(
                f"evaluation must keep at most {self._max_bytes} bytes, got {size}",
                details={"limit": self._max_bytes, "size": size},
            )

    def fill(self, reply: v1.EvaluateResponse, call: Call, hold: Hold) -> None:
        """Writes the results of everything that was added; ``hold`` counts the reply.

        Raises:
            Overloaded: if there is no room for it.
        """
        with self._compute_slots.slot(call), call.phase("compute"):
            for one, state in zip(self.metrics, self.states, strict=True):
                call.checkpoint()
                with call.collecting() as hold_metric:
                    score = one.score(state, call.checkpoint, hold_metric)
                result = evaluation_codec.result(one, state, score)
                hold(_COPIES * result.ByteSize())
                reply.results.append(result)
        if self._return_state:
            hold(_COPIES * self.nbytes)
            reply.state = evaluation_state.write(self.metrics, self.states, call.checkpoint)
        write_timing(reply.server_timing, call.seconds)


def _misfit(
    added: Sequence[Sequence[State]], error: StateError, call: Call, *, has_batch: bool
) -> InvalidRequest:
    """Returns the error for what does not fit; the batch of a part is the last that was added."""
    try:
        for states in added if has_batch else ():
            merged(states[:-1], call.checkpoint)
    except StateError as earlier:
        error = earlier
    else:
        if has_batch:
            return InvalidTensor(
                f"batch must be like the data before it, got one where {error}", field="batch"
            )
    return InvalidRequest(str(error), reason="INVALID_STATE", field="states")


@contextmanager
def _numbered(part: int) -> Iterator[None]:
    """Has an error say which part of a stream is at fault: its caller is some parts ahead."""
    try:
        yield
    except ServiceError as error:
        error.details["part"] = str(part)
        raise


class EvaluationServicer:
    """Serves ``EvaluationService``."""

    def __init__(self, config: Config, compute_slots: ComputeSlots, telemetry: Telemetry) -> None:
        self._limits = Limits(tensors=config.max_tensors, axes=config.max_axes)
        self._max_bytes = config.max_message_bytes
        self._compute_slots = compute_slots
        self._telemetry = telemetry
        # A stream keeps its thread while its caller is idle; some threads are left for other calls.
        most = max(1, config.max_calls // 2)
        self._streams = Gauge("streams of evaluations in flight", "TOO_MANY_STREAMS", most)

    def methods(self) -> Mapping[str, Handler]:
        """Returns the methods that take one message, by full name."""
        handlers = {"Evaluate": self.evaluate, "ListMetrics": self.list_metrics}
        return {f"/{EVALUATION_SERVICE}/{name}": handler for name, handler in handlers.items()}

    def streams(self) -> Mapping[str, StreamHandler]:
        """Returns the methods that take a stream of messages."""
        return {f"/{EVALUATION_SERVICE}/EvaluateStream": self.evaluate_stream}

    def evaluate(self, received: Received, call: Call) -> bytes:
        """Evaluates one batch, merges states, or both."""
        with call.phase("decode"):
            framed = parse_framed(v1.EvaluateRequest, received.take(), call.hold, call.checkpoint)
        evaluation = self._begin(framed.message, call)
        evaluation.add(framed.message, call, framed.payloads)
        reply = v1.EvaluateResponse()
        return self._finished(evaluation, reply, reply, call)

    def evaluate_stream(self, parts: Iterator[bytes], call: Call, ticket: AdmissionTicket) -> bytes:
        """Evaluates many batches."""
        self._streams.take(1)
        try:
            call.let_in()
            return self._evaluate_stream(parts, call, ticket)
        finally:
            self._streams.give_back(1)

    def _evaluate_stream(
        self, parts: Iterator[bytes], call: Call, ticket: AdmissionTicket
    ) -> bytes:
        evaluation = None
        for number, data in enumerate(parts):
            with _numbered(number), ticket.collecting() as collect:
                collect(len(data))
                framed = parse_framed(v1.EvaluateStreamRequest, data, collect, call.checkpoint)
                part = framed.message.part
                if evaluation is None:
                    evaluation = self._begin(part, call)
                elif len(part.metrics):
                    raise InvalidRequest(
                        f"metrics must be unset after the first part, got {len(part.metrics)}",
                        field="metrics",
                    )
                evaluation.add(part, call, framed.payloads)
        if evaluation is None:
            raise InvalidRequest("stream must have a part, got none", reason="NO_MESSAGE")
        reply = v1.EvaluateStreamResponse()
        return self._finished(evaluation, reply.whole, reply, call)

    def list_metrics(self, received: Received, call: Call) -> bytes:
        """Answers with the catalogue of metrics."""
        del call
        parse(v1.ListMetricsRequest, received.take())
        return catalogue.list_metrics().SerializeToString()

    def _begin(self, request: v1.EvaluateRequest, call: Call) -> RunningEvaluation:
        kinds = evaluation_codec.kinds(request.metrics)
        call.labels["metrics"] = self._telemetry.metric_labels(kinds)
        return RunningEvaluation(request, self._limits, self._compute_slots, self._max_bytes)

    def _finished(
        self,
        evaluation: RunningEvaluation,
        whole: v1.EvaluateResponse,
        reply: Message,
        call: Call,
    ) -> bytes:
        """Fills ``whole``, which is in the reply or is it, and returns the reply's bytes."""
        with call.collecting() as hold:
            evaluation.fill(whole, call, hold)
            encoded = reply.SerializeToString()
        for one, state in zip(evaluation.metrics, evaluation.states, strict=True):
            self._telemetry.evaluated(one.metric.name, state.example_count)
        return encoded
