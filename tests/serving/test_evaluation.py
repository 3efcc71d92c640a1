"""An evaluation keeps no more than it may."""

import numpy as np
import pytest

from lossd import tensors, v1
from lossd.errors import TooLarge
from lossd.serving.call import Call
from lossd.serving.evaluation_service import codec
from lossd.serving.evaluation_service.servicer import RunningEvaluation
from lossd.serving.rpc.admission import ComputeSlots
from lossd.serving.wire.reader import Limits, RequestReader


class Waiting:
    """Somebody who waits for ever."""

    def is_active(self) -> bool:
        return True

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
