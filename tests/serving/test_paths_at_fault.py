"""The path that is told of a refusal is that of the field at fault, not of what is around it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lossd import tensors, v1
from lossd.errors import InvalidTensor, ServiceError
from lossd.framing import Framed
from lossd.serving.call import Call
from lossd.serving.evaluation_service.servicer import RunningEvaluation
from lossd.serving.loss_service.requests import read_request
from lossd.serving.rpc.admission import ComputeSlots
from lossd.serving.wire.reader import Limits
from tests.serving.test_evaluation import Waiting


def batch(columns: int = 3, rows: int = 4) -> v1.EvaluationBatch:
    made = v1.EvaluationBatch()
    scores = np.random.default_rng(0).random((rows, columns))
    for name, array in (("predictions", scores), ("targets", np.arange(rows) % columns)):
        tensors.fill(made.inputs.add(name=name).tensors.add(), array)
    return made


def texts() -> v1.EvaluationBatch:
    names = ("hypotheses", "references")
    return v1.EvaluationBatch(sequences=[v1.NamedSequences(name=n, texts=["a b"]) for n in names])


ACCURACY, BLEU = v1.MetricSpec(accuracy=v1.Accuracy()), v1.MetricSpec(bleu=v1.Bleu())


def evaluated(metric: v1.MetricSpec, *parts: v1.EvaluateRequest) -> RunningEvaluation:
    first = v1.EvaluateRequest(metrics=[metric])
    running = RunningEvaluation(first, Limits(), ComputeSlots(1), max_bytes=1 << 20)
    for part in parts:
        running.add(part, Call(Waiting(), "id"))
    return running


def whole(batch: v1.EvaluationBatch) -> v1.EvaluateRequest:
    return v1.EvaluateRequest(batch=batch)


def refused(metric: v1.MetricSpec, *parts: v1.EvaluateRequest) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        evaluated(metric, *parts)
    return caught.value


@pytest.mark.parametrize(
    ("metric", "make", "change", "path"),
    [
        (ACCURACY, batch, lambda b: b.inputs.add(name="x").tensors.add(), "inputs[2].name"),
        (ACCURACY, batch, lambda b: b.sequences.add(name="x"), "sequences[0].name"),
        (BLEU, texts, lambda b: b.inputs.add(name="hypotheses"), "inputs[0].name"),
        (BLEU, texts, lambda b: b.sequences.add(name="x"), "sequences[2].name"),
        (BLEU, texts, lambda b: b.sequences[1].lengths.SetInParent(), "sequences[1].lengths"),
    ],
    ids=[
        "unknown input", "unknown sequence", "input that is a sequence", "another sequence",
        "lengths of texts",
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_batch(
    metric: v1.MetricSpec,
    make: Callable[[], v1.EvaluationBatch],
    change: Callable[[v1.EvaluationBatch], object],
    path: str,
) -> None:
    wrong = make()
    change(wrong)
    for one in wrong.inputs[-1].tensors if len(wrong.inputs) > 2 else ():
        tensors.fill(one, np.zeros(1))

    assert refused(metric, whole(wrong)).field == f"batch.{path}"
    assert evaluated(metric, whole(make())).states[0].example_count


@pytest.mark.parametrize("lengths", [[5], [], [-1]])
def test_lengths_go_with_tokens(lengths: list[int]) -> None:
    made = texts()
    tensors.fill(made.sequences[0].lengths, np.array(lengths, np.int64))
    error = refused(BLEU, whole(made))

    assert isinstance(error, InvalidTensor)
    assert str(error) == "lengths must go with tokens, got none"


def test_a_batch_that_does_not_fit_is_not_taken_for_a_state() -> None:
    error = refused(ACCURACY, whole(batch(3)), whole(batch(4)))
    assert (error.field, error.reason) == ("batch", "INVALID_TENSOR")
    assert "batch must be like the data before it, got one where" in str(error)
    assert "3 and 4" in str(error)


def test_a_state_that_does_not_fit_is_still_told_as_one() -> None:
    running = evaluated(ACCURACY, whole(batch(3)))
    reply = v1.EvaluateResponse()
    running.add(v1.EvaluateRequest(return_state=True), Call(Waiting(), "id"))
    running.fill(reply, Call(Waiting(), "id"), lambda _: None)
    kept = v1.EvaluateRequest(states=[reply.state])
    beside = v1.EvaluateRequest(states=[reply.state], batch=batch(4))

    error = refused(ACCURACY, whole(batch(4)), kept)
    assert (error.field, error.reason) == ("states", "INVALID_STATE")
    error = refused(ACCURACY, whole(batch(4)), beside)
    assert (error.field, error.reason) == ("states", "INVALID_STATE")
    assert refused(ACCURACY, beside).field == "batch"
    assert evaluated(ACCURACY, kept, whole(batch(3))).states[0].example_count == 8


def request(loss: Any, *names: str) -> v1.ComputeLossRequest:
    made = v1.ComputeLossRequest(loss=loss)
    for name in names:
        tensors.fill(made.inputs.add(name=name).tensors.add(), np.zeros((2, 3), np.float32))
    return made


def test_a_type_that_is_none_is_told_with_those_there_are() -> None:
    asked = request(v1.LossSpec(squared_error=v1.SquaredError()), "predictions", "targets")
    asked.inputs[1].tensors[0].dtype = v1.D_TYPE_UNSPECIFIED
    with pytest.raises(InvalidTensor, match=r"must be one of D_TYPE_.*FLOAT64.* got 0") as caught:
        read_request(Framed(asked), Limits())
    assert caught.value.field == "inputs[1].tensors[0].dtype"
