"""Answers on a stream count until they have been read."""

from contextlib import closing

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from lossd import v1
from lossd.backends.choose import Chosen, cpu_backend
from lossd.client.requests import build_request
from lossd.engine import Engine
from lossd.losses import LOSSES
from lossd.serving.call import Call
from lossd.serving.config import Config
from lossd.serving.loss_service.servicer import LossServicer
from lossd.serving.process.device_check import CheckedDevice
from lossd.serving.rpc.admission import Admission, ComputeSlots
from lossd.serving.telemetry import Telemetry
from tests.drawn_networks import NETWORKS
from tests.serving.test_planned import Streaming

CLASSES = 2048


@pytest.mark.parametrize("rows", [2, 8])
def test_metrics_beside_a_loss_count_with_its_answer(rows: int) -> None:
    """In the first message, or after it, where the answer is large enough to be cut up."""
    batch = {"predictions": np.zeros((rows, CLASSES), "f4"), "targets": np.zeros(rows, np.int64)}
    metric = v1.MetricSpec(confusion_matrix=v1.ConfusionMatrix())
    made = build_request(v1.CrossEntropy(), batch, metrics=[metric])
    first = v1.StreamLossRequest(call=v1.ComputeLossRequest.FromString(made.serialise()))
    admission = Admission(calls=1, request_bytes=1 << 30)
    ticket = admission.enter()
    with closing(Engine(cpu_backend(1), NETWORKS)) as engine:
        servicer = LossServicer(
            Config(), CheckedDevice(Chosen(engine.backend, "asked for"), engine, {}),
            ComputeSlots(1), Telemetry(CollectorRegistry(), losses=LOSSES),
        )  # fmt: skip
        call = Call(Streaming(), "id", ticket.hold, ticket.collecting)
        answers = servicer.stream_loss(iter([first.SerializeToString()]), call, ticket)
        size = len(next(answers))
        counted = admission.request_bytes
        size += sum(map(len, answers))
    assert size >= CLASSES**2 * 8
    assert counted >= 0.99 * size
