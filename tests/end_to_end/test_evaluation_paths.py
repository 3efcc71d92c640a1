"""Errors of a part of an evaluation name the fields that they name in a request of its own."""

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from lossd import tensors, v1
from lossd.client.errors import LossdError, from_rpc_error
from tests.end_to_end.conftest import Process

SERVICE = "/lossd.v1.EvaluationService"


def tensor(values: Any) -> v1.Tensor:
    found = v1.Tensor()
    tensors.fill(found, np.asarray(values))
    return found


def numbers() -> v1.EvaluateRequest:
    found = v1.EvaluateRequest(metrics=[v1.MetricSpec(accuracy=v1.Accuracy())])
    found.batch.inputs.add(name="predictions").tensors.append(tensor([1.0, -1.0]))
    found.batch.inputs.add(name="targets").tensors.append(tensor([1, 0]))
    return found


def texts() -> v1.EvaluateRequest:
    found = v1.EvaluateRequest(metrics=[v1.MetricSpec(bleu=v1.Bleu())])
    found.batch.sequences.add(name="hypotheses", texts=["a"])
    found.batch.sequences.add(name="references", texts=["a"])
    return found


def state(**given: Any) -> bytes:
    return v1.EvaluationState(metrics=[v1.MetricState(**given)]).SerializeToString()


WRONG: dict[str, tuple[Callable[[], v1.EvaluateRequest], Callable[[Any], Any], str]] = {
    "no metric": (numbers, lambda r: r.ClearField("metrics"), "metrics"),
    "many metrics": (numbers, lambda r: [r.metrics.add() for _ in range(40)], "metrics"),
    "a metric twice": (
        numbers, lambda r: r.metrics.add(accuracy=v1.Accuracy()), "metrics[1]",
    ),
    "no kind": (numbers, lambda r: r.metrics.add(), "metrics[1]"),
    "a parameter": (
        numbers, lambda r: r.metrics[0].f1.MergeFromString(b"\x08\x63"), "metrics[0].f1.task",
    ),
    "classes of a matrix": (
        numbers, lambda r: setattr(r.metrics[0].confusion_matrix, "classes", 2049),
        "metrics[0].confusion_matrix.classes",
    ),
    "a malformed tensor": (
        numbers, lambda r: r.batch.inputs[0].tensors[0].shape.append(7),
        "batch.inputs[0].tensors[0].data",
    ),
    "weights": (
        numbers, lambda r: r.batch.weights.CopyFrom(tensor([-1.0, 1.0])), "batch.weights",
    ),
    "a mask of numbers": (
        numbers, lambda r: r.batch.mask.CopyFrom(tensor([1.0, 1.0])), "batch.mask.dtype",
    ),
    "a missing input": (numbers, lambda r: r.batch.inputs.pop(), "batch.inputs"),
    "an input twice": (
        numbers, lambda r: r.batch.inputs.add(name="targets").tensors.append(tensor([1, 0])),
        "batch.inputs[2].name",
    ),
    "two tensors": (
        numbers, lambda r: r.batch.inputs[0].tensors.append(tensor([1.0])), "batch.inputs",
    ),
    "a target": (
        numbers, lambda r: r.batch.inputs[1].tensors[0].CopyFrom(tensor([5, 0])),
        "batch.inputs.targets",
    ),
    "a state of noise": (numbers, lambda r: r.states.append(b"\xff"), "states[0]"),
    "an old state": (numbers, lambda r: r.states.append(state(version=1)), "states[0]"),
    "a state of nothing": (numbers, lambda r: r.states.append(state(version=2)), "states[0]"),
    "many states": (numbers, lambda r: r.states.extend([b""] * 2000), "states"),
    "counts": (
        texts, lambda r: r.batch.sequences[1].counts.CopyFrom(tensor([5])),
        "batch.sequences[1].counts",
    ),
    "texts and tokens": (
        texts, lambda r: r.batch.sequences[0].tokens.CopyFrom(tensor([1])),
        "batch.sequences[0].tokens",
    ),
    "sequences twice": (
        texts, lambda r: r.batch.sequences.add(name="references"), "batch.sequences[2].name",
    ),
    "other sequences": (
        texts, lambda r: r.batch.sequences.add(name="x"), "batch.sequences[2].name",
    ),
}  # fmt: skip


@pytest.fixture
def channel(server: Process) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as found:
        yield found


def refused(channel: grpc.Channel, *parts: v1.EvaluateRequest) -> LossdError:
    """The error of a stream of parts."""
    stream: Any = channel.stream_unary(f"{SERVICE}/EvaluateStream")
    sent = (v1.EvaluateStreamRequest(part=part).SerializeToString() for part in parts)
    with pytest.raises(grpc.RpcError) as told:
        stream(sent, timeout=20)
    return from_rpc_error(told.value)


@pytest.mark.parametrize("name", WRONG)
def test_a_part_has_the_paths_of_a_request_of_its_own(channel: grpc.Channel, name: str) -> None:
    make, spoil, path = WRONG[name]
    wrong = make()
    spoil(wrong)
    evaluate: Any = channel.unary_unary(f"{SERVICE}/Evaluate")
    with pytest.raises(grpc.RpcError) as told:
        evaluate(wrong.SerializeToString(), timeout=20)
    alone = from_rpc_error(told.value)
    first = refused(channel, wrong)

    assert alone.field == path
    assert (first.code, first.message, first.field) == (alone.code, alone.message, path)
    if not path.startswith("metrics"):
        later = v1.EvaluateRequest(batch=wrong.batch, states=wrong.states)
        assert refused(channel, v1.EvaluateRequest(metrics=wrong.metrics), later).field == path


def test_metrics_of_a_later_part_are_named_alike(channel: grpc.Channel) -> None:
    error = refused(channel, numbers(), numbers())
    assert error.message == "metrics must be unset after the first part, got 1"
    assert error.field == "metrics"
