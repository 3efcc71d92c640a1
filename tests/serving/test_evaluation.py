"""An evaluation keeps no more than it may, counts what it takes, and stops with its call."""

import math
import tracemalloc

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from lossd import tensors, v1
from lossd.errors import Abandoned, InvalidRequest, TooLarge
from lossd.evaluation import METRICS, State
from lossd.serving.call import Call, Received
from lossd.serving.config import Config
from lossd.serving.evaluation_service import codec
from lossd.serving.evaluation_service import state as evaluation_state
from lossd.serving.evaluation_service.servicer import EvaluationServicer, RunningEvaluation
from lossd.serving.rpc.admission import Admission, ComputeSlots
from lossd.serving.telemetry import Telemetry
from lossd.serving.wire.reader import Limits, RequestReader


class Waiting:
    """Somebody who waits for ever, or until it was asked so often."""

    def __init__(self, patience: float = math.inf) -> None:
        self._patience = patience

    def is_active(self) -> bool:
        self._patience -= 1
        return self._patience >= 0

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return ()

    def send_initial_metadata(self, metadata: tuple[tuple[str, str], ...], /) -> None:
        assert metadata

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def time_remaining(self) -> float | None:
        return None

    def cancel(self) -> None:
        """Who waits for ever is not told."""


def test_it_stops_at_the_first_metric_that_keeps_too_much() -> None:
    wrong = v1.Accuracy(top_k=2)  # of yes-or-no answers: an error, were it looked at
    request = v1.EvaluateRequest(
        metrics=[v1.MetricSpec(roc_auc=v1.RocAuc()), v1.MetricSpec(accuracy=wrong)]
    )
    for name, array in (("predictions", np.zeros(1000)), ("targets", np.zeros(1000, np.int64))):
        tensors.fill(request.batch.inputs.add(name=name).tensors.add(), array)
    evaluation = RunningEvaluation(request, Limits(), ComputeSlots(1), max_bytes=2000)
    with pytest.raises(TooLarge, match="must keep at most 2000 bytes, got 9000"):
        evaluation.add(request, Call(Waiting(), "id"))


def two_examples(*metrics: v1.MetricSpec, return_state: bool = False) -> v1.EvaluateRequest:
    request = v1.EvaluateRequest(metrics=metrics, return_state=return_state)
    for name in ("predictions", "targets"):
        tensors.fill(request.batch.inputs.add(name=name).tensors.add(), np.array([0, 1]))
    return request


def of_many_classes(count: int) -> list[v1.MetricSpec]:
    """Metrics that keep megabytes of whatever they are given."""
    return [v1.MetricSpec(f_beta=v1.FBeta(beta=i + 1, classes=200_000)) for i in range(count)]


def test_it_stops_between_metrics_when_nobody_waits_any_more() -> None:
    wrong = v1.MetricSpec(accuracy=v1.Accuracy(top_k=2))
    request = two_examples(v1.MetricSpec(f1=v1.F1()), wrong)
    evaluation = RunningEvaluation(request, Limits(), ComputeSlots(1), max_bytes=1 << 20)
    with pytest.raises(Abandoned):
        evaluation.add(request, Call(Waiting(2), "id"))


def test_it_stops_between_states_when_nobody_waits_any_more() -> None:
    metrics = codec.requested([v1.MetricSpec(f1=v1.F1())])
    message = v1.EvaluationState.FromString(evaluation_state.write(metrics, [State()]))
    message.metrics.add(version=message.metrics[0].version + 1)  # an error, were it looked at
    request = v1.EvaluateRequest(
        metrics=[v1.MetricSpec(f1=v1.F1())], states=[message.SerializeToString()]
    )
    evaluation = RunningEvaluation(request, Limits(), ComputeSlots(1), max_bytes=1 << 20)
    with pytest.raises(Abandoned):
        evaluation.add(request, Call(Waiting(1), "id"))


def test_states_count_until_the_call_is_over() -> None:
    admission = Admission(calls=1, request_bytes=1 << 30)
    ticket = admission.enter()
    request = two_examples(*of_many_classes(4))
    evaluation = RunningEvaluation(request, Limits(), ComputeSlots(1), max_bytes=1 << 30)
    for _ in range(2):
        evaluation.add(request, Call(Waiting(), "id", ticket.hold, ticket.collecting))
        assert admission.request_bytes == evaluation.nbytes > 19_000_000


@pytest.mark.parametrize("streamed", [False, True])
def test_a_call_takes_no_more_than_it_counts(*, streamed: bool) -> None:
    """A request of a hundred bytes may ask for many metrics of many classes, and their states."""
    admission = Admission(calls=1, request_bytes=1 << 30)
    ticket = admission.enter()
    call = Call(Waiting(), "id", ticket.hold, ticket.collecting)
    telemetry = Telemetry(CollectorRegistry(), losses=(), evaluated=METRICS)
    servicer = EvaluationServicer(Config(), ComputeSlots(1), telemetry)
    request = two_examples(*of_many_classes(6), return_state=True)
    parts = [v1.EvaluateStreamRequest(part=request)]
    request.ClearField("metrics")
    parts.append(v1.EvaluateStreamRequest(part=request))
    whole = two_examples(*of_many_classes(6), return_state=True).SerializeToString()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        if streamed:
            messages = (part.SerializeToString() for part in parts)
            reply = servicer.evaluate_stream(messages, call, ticket)
        else:
            reply = servicer.evaluate(Received(whole), call)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(reply) > 6 * 4 * 1_600_000  # counts of three kinds, and values
    assert peak - before <= admission.take_most()


def streamed(servicer: EvaluationServicer, *parts: v1.EvaluateRequest) -> v1.EvaluateResponse:
    messages = (v1.EvaluateStreamRequest(part=part).SerializeToString() for part in parts)
    ticket = Admission(calls=1, request_bytes=1 << 30).enter()
    reply = servicer.evaluate_stream(messages, Call(Waiting(), "id"), ticket)
    return v1.EvaluateStreamResponse.FromString(reply).whole


@pytest.mark.parametrize("asking", [0, 1])
def test_any_part_of_a_stream_may_ask_for_its_state(asking: int) -> None:
    telemetry = Telemetry(CollectorRegistry(), losses=(), evaluated=METRICS)
    servicer = EvaluationServicer(Config(), ComputeSlots(1), telemetry)
    parts = [two_examples(v1.MetricSpec(f1=v1.F1())), two_examples()]
    assert not streamed(servicer, *parts).state
    parts[asking].return_state = True
    assert streamed(servicer, *parts).state


def test_a_stream_that_has_ended_leaves_its_room_to_others() -> None:
    telemetry = Telemetry(CollectorRegistry(), losses=(), evaluated=METRICS)
    servicer = EvaluationServicer(Config(max_calls=2), ComputeSlots(1), telemetry)
    for _ in range(2):  # one at a time
        assert streamed(servicer, two_examples(v1.MetricSpec(f1=v1.F1()))).results
        with pytest.raises(InvalidRequest, match="stream must have a part"):
            streamed(servicer)


@pytest.mark.parametrize("name", ["inputs", "sequences"])
def test_what_is_too_many_in_a_batch_is_named_by_its_path(name: str) -> None:
    batch = v1.EvaluationBatch()
    for index in range(3):
        getattr(batch, name).add(name=str(index))
    metrics = codec.requested([v1.MetricSpec(f1=v1.F1())])
    with pytest.raises(TooLarge, match=f"^{name} must have at most 2 entries, got 3$") as caught:
        codec.batch(batch, metrics, lambda: None, RequestReader(None, Limits(tensors=2)))
    assert caught.value.field == f"batch.{name}"


def test_sizes_below_zero_take_nothing_from_what_counts() -> None:
    batch = v1.EvaluationBatch()
    batch.sequences.add(name="hypotheses", texts=["a"] * 1000)
    counted = codec.sequence_bytes(batch)
    assert counted >= 1000
    for sizes in (batch.sequences[0].lengths, batch.sequences[0].counts):
        sizes.shape.append(-1 << 62)
    assert codec.sequence_bytes(batch) == counted
