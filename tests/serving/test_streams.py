"""Answers on a stream count until they have been read, and each batch by itself."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from lossd import v1
from lossd.backends.choose import Chosen, cpu_backend
from lossd.checkpoints import never_stop
from lossd.client.requests import build_request
from lossd.engine import Engine, hold_nothing
from lossd.errors import InvalidRequest, InvalidTensor, TooLarge
from lossd.framing import Framed
from lossd.losses import LOSSES
from lossd.serving.call import Call
from lossd.serving.config import Config
from lossd.serving.loss_service.requests import read_request
from lossd.serving.loss_service.servicer import SERVICE, LossServicer
from lossd.serving.loss_service.stream import OpenedCall, open_call
from lossd.serving.process.device_check import CheckedDevice
from lossd.serving.process.versions import versions
from lossd.serving.rpc.admission import Admission, ComputeSlots
from lossd.serving.telemetry import Telemetry
from lossd.serving.wire.reader import Limits
from tests.drawn_networks import NETWORKS
from tests.serving.test_planned import Streaming

CLASSES = 2048
STREAM = "/lossd.v1.LossService/StreamLoss"


@contextmanager
def serving(telemetry: Telemetry) -> Iterator[LossServicer]:
    with closing(Engine(cpu_backend(1), NETWORKS)) as engine:
        checked = CheckedDevice(Chosen(engine.backend, "asked for"), engine, {})
        yield LossServicer(Config(), checked, ComputeSlots(1), telemetry, installed=versions())


@pytest.mark.parametrize("rows", [2, 8])
def test_metrics_beside_a_loss_count_with_its_answer(rows: int) -> None:
    """In the first message, or after it, where the answer is large enough to be cut up."""
    batch = {"predictions": np.zeros((rows, CLASSES), "f4"), "targets": np.zeros(rows, np.int64)}
    metric = v1.MetricSpec(confusion_matrix=v1.ConfusionMatrix())
    made = build_request(v1.CrossEntropy(), batch, metrics=[metric])
    first = v1.StreamLossRequest(call=v1.ComputeLossRequest.FromString(made.serialise()))
    admission = Admission(calls=1, request_bytes=1 << 30)
    ticket = admission.enter()
    with serving(Telemetry(CollectorRegistry(), losses=LOSSES)) as servicer:
        call = Call(Streaming(), "id", ticket.hold, ticket.collecting)
        answers = servicer.stream_loss(iter([first.SerializeToString()]), call, ticket)
        size = len(next(answers))
        counted = admission.request_bytes
        size += sum(map(len, answers))
    assert size >= CLASSES**2 * 8
    assert counted >= 0.99 * size


@pytest.mark.parametrize("normalizer", [1.0, -1.0], ids=["to its end", "to a mistake"])
def test_the_time_between_two_batches_counts_for_neither(
    normalizer: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, registry = [0.0], CollectorRegistry()
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    batch = {"predictions": np.zeros(2, "f4"), "targets": np.zeros(2, "f4")}
    telemetry = Telemetry(registry, losses=LOSSES)
    ticket = Admission(calls=1, request_bytes=1 << 30).enter()
    call = Call(Streaming(), "id", ticket.hold, ticket.collecting)

    def messages() -> Iterator[bytes]:
        """Each comes after a while, as the boundary has it."""
        for wanted in (1.0, normalizer):
            now[0] += 1000
            call.spent("receive", 1000)
            made = build_request(v1.Huber(), batch, normalizer=wanted)
            part = v1.ComputeLossRequest.FromString(made.serialise())
            yield v1.StreamLossRequest(call=part).SerializeToString()
        now[0] += 1000
        call.spent("receive", 1000)

    telemetry.expect((), conversations=[STREAM])
    with serving(telemetry) as servicer, suppress(InvalidRequest):
        for _ in servicer.stream_loss(messages(), call, ticket):
            now[0] += 0.25
    telemetry.ended(STREAM, call, "OK", now[0])

    def total(name: str, **labels: str) -> float:
        return registry.get_sample_value(f"{name}_sum", labels) or 0.0

    assert 0 < total("lossd_request_duration_seconds", loss="huber") <= 1
    assert total("lossd_phase_duration_seconds", phase="receive") == 0
    method = {"grpc_type": "bidi_stream", "grpc_service": SERVICE, "grpc_method": "StreamLoss"}
    assert total("grpc_server_handling_seconds", **method) >= 2000


def test_a_call_announces_no_more_bytes_than_may_be() -> None:
    def opened(*sizes: int) -> OpenedCall:
        call = v1.ComputeLossRequest(loss=v1.LossSpec(squared_error=v1.SquaredError()))
        for position, size in enumerate(sizes):
            tensor = call.inputs.add(name=f"input {position}").tensors.add()
            tensor.chunks.position, tensor.chunks.size_bytes = position, size
        encoded = v1.StreamLossRequest(call=call).SerializeToString()
        return open_call(encoded, Limits(), 100, hold_nothing, never_stop)

    assert opened(60, 40).size_bytes == 100
    with pytest.raises(TooLarge, match="must have at most 100 bytes, got 101"):
        opened(60, 41)


CROWDED = {
    (5,): (InvalidTensor, "a0 must be at most 4 tensors, got 5", "inputs[0].tensors"),
    (1, 5): (InvalidTensor, "a1 must be at most 4 tensors, got 5", "inputs[1].tensors"),
    (2, 3): (TooLarge, "tensors of inputs must have at most 4 entries, got 5", "inputs"),
    (0, 0, 0, 0, 0): (TooLarge, "inputs must have at most 4 entries, got 5", "inputs"),
}


@pytest.mark.parametrize("counts", CROWDED)
@pytest.mark.parametrize("way", ["call", "stream"])
def test_too_many_tensors_are_refused_alike_whichever_way_they_come(
    counts: tuple[int, ...], way: str
) -> None:
    call = v1.ComputeLossRequest(loss=v1.LossSpec(huber=v1.Huber()))
    for index, count in enumerate(counts):
        named = call.inputs.add(name=f"a{index}")
        for _ in range(count):
            named.tensors.add()
    kind, words, field = CROWDED[counts]
    encoded = v1.StreamLossRequest(call=call).SerializeToString()
    read: dict[str, Callable[[], object]] = {
        "call": lambda: read_request(Framed(call), Limits(tensors=4)),
        "stream": lambda: open_call(encoded, Limits(tensors=4), 1, hold_nothing, never_stop),
    }
    with pytest.raises(kind) as caught:
        read[way]()
    assert str(caught.value).startswith(words)
    assert caught.value.field == field
