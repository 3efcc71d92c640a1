"""Calls that their callers cancel are told apart from those whose messages end."""

import time
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from lossd import tensors, v1
from tests.end_to_end.conftest import Process, metric
from tests.end_to_end.raw import CHANNEL
from tests.waiting import until

CALLS = 20


def _announced() -> bytes:
    """The start of a batch whose arrays are still to come, in chunks."""
    made = v1.ComputeLossRequest(loss=v1.LossSpec(huber=v1.Huber()))
    for position, name in enumerate(("predictions", "targets")):
        tensor = made.inputs.add(name=name).tensors.add(dtype=v1.D_TYPE_FLOAT32, shape=[1000])
        tensor.chunks.position, tensor.chunks.size_bytes = position, 4000
    return v1.StreamLossRequest(call=made).SerializeToString()


def _part() -> bytes:
    """A part of an evaluation."""
    made = v1.EvaluateRequest(metrics=[v1.MetricSpec(accuracy=v1.Accuracy())])
    for name, array in (("predictions", np.eye(2, dtype=np.float32)), ("targets", np.arange(2))):
        tensors.fill(made.batch.inputs.add(name=name).tensors.add(), array)
    return v1.EvaluateStreamRequest(part=made).SerializeToString()


WAYS = {
    ("LossService", "StreamLoss", "bidi_stream"): [_announced()],
    ("LossService", "ComputeLoss", "unary"): [],
    ("EvaluationService", "EvaluateStream", "client_stream"): [_part()],
}


def _started(server: Process, labels: dict[str, str]) -> float:
    """How many calls of a method have come."""
    return metric(server, "grpc_server_started_total", **labels)


def _handled(server: Process, labels: dict[str, str]) -> dict[str, float]:
    """How many calls of a method ended, by status."""
    return {
        code.name: metric(server, "grpc_server_handled_total", grpc_code=code.name, **labels)
        for code in grpc.StatusCode
    }


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[1])
def test_a_cancelled_call_is_neither_done_nor_wrong(
    server: Process, way: tuple[str, str, str]
) -> None:
    """gRPC tells that there are no more messages a moment before it tells that nobody waits."""
    service, method, kind = way
    labels = {"grpc_service": f"lossd.v1.{service}", "grpc_method": method, "grpc_type": kind}
    before = _handled(server, labels)
    evaluated = metric(server, "lossd_evaluated_examples_total", metric="accuracy")
    with grpc.insecure_channel(server.address, options=CHANNEL) as channel:
        start: Any = channel.stream_stream(f"/lossd.v1.{service}/{method}")
        for _ in range(CALLS):
            left, come = False, _started(server, labels)

            def messages() -> Iterator[bytes]:
                yield from WAYS[way]
                while not left:  # noqa: B023 - of this call
                    time.sleep(0.001)

            call = start(messages())
            until(lambda: _started(server, labels) > come)  # noqa: B023 - at once
            time.sleep(0.02)  # it is waited for by then
            call.cancel()
            left = True
    ended = sum(before.values()) + CALLS
    until(lambda: sum(_handled(server, labels).values()) == ended, seconds=20)
    after = _handled(server, labels)
    assert after["CANCELLED"] == before["CANCELLED"] + CALLS
    assert metric(server, "lossd_evaluated_examples_total", metric="accuracy") == evaluated
