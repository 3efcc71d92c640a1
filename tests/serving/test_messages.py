"""Messages that would keep the server from others are refused, and what takes long stops."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from lossd import tensors, v1
from lossd.checkpoints import never_stop
from lossd.engine import hold_nothing
from lossd.errors import Abandoned, InvalidTensor, TooLarge
from lossd.evaluation import METRICS
from lossd.serving.call import Call, Received
from lossd.serving.config import Config
from lossd.serving.evaluation_service.servicer import EvaluationServicer
from lossd.serving.rpc.admission import ComputeSlots
from lossd.serving.rpc.messages import MAX_TEXT_BYTES, parse, parse_framed
from lossd.serving.telemetry import Telemetry
from tests.serving.test_evaluation import Waiting

Parse = Callable[..., Any]


@pytest.mark.parametrize("read", [parse, parse_framed])
def test_a_text_is_refused_before_it_is_read(read: Parse) -> None:
    request = v1.EvaluateRequest()
    name = "a" * (MAX_TEXT_BYTES + 1)
    request.batch.sequences.add(name=name)
    with pytest.raises(TooLarge, match=f"texts must have .* {MAX_TEXT_BYTES} bytes each") as caught:
        read(v1.EvaluateRequest, request.SerializeToString(), hold_nothing, never_stop)
    assert caught.value.details == {"limit": str(MAX_TEXT_BYTES), "size": str(len(name))}
    request.batch.sequences[0].name = name[1:]
    read(v1.EvaluateRequest, request.SerializeToString(), hold_nothing, never_stop)


@pytest.mark.parametrize("read", [parse, parse_framed])
def test_counting_fields_stops_when_nobody_waits_any_more(read: Parse) -> None:
    """Two million of them take seconds."""
    request = v1.EvaluateRequest()
    request.batch.sequences.add(texts=["a"] * 100_000)

    def checkpoint() -> None:
        raise Abandoned("call must be waited for, got a cancelled one")

    with pytest.raises(Abandoned):
        read(v1.EvaluateRequest, request.SerializeToString(), hold_nothing, checkpoint)


def test_tensors_of_an_evaluation_are_not_copied() -> None:
    """A copy keeps the interpreter: a third of a second for a message as large as may be."""
    size = 1 << 22
    request = v1.EvaluateRequest(metrics=[v1.MetricSpec(roc_auc=v1.RocAuc())])
    for name, count in (("predictions", size), ("targets", size - 1)):
        tensor = request.batch.inputs.add(name=name).tensors.add()
        tensors.fill(tensor, np.zeros(count, np.int8 if name == "targets" else np.float32))
    encoded = request.SerializeToString()
    telemetry = Telemetry(CollectorRegistry(), losses=(), evaluated=METRICS)
    servicer = EvaluationServicer(Config(), ComputeSlots(1), telemetry)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidTensor, match="targets must have the shape"):
            servicer.evaluate(Received(encoded), Call(Waiting(), "id"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size
