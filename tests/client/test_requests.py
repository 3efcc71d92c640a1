from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd import client, tensors, v1
from lossd.client.requests import build_request


def build(**arguments: Any) -> Any:
    framed = build_request(v1.Huber(), arguments.pop("inputs", {}), **arguments)
    return v1.ComputeLossRequest.FromString(framed.serialise())


def test_defaults_are_said_and_the_rest_is_unset() -> None:
    request = build()
    assert request.reduction == v1.REDUCTION_MEAN
    assert request.empty == v1.EMPTY_POLICY_ZERO
    assert request.nonfinite == v1.NONFINITE_POLICY_PROPAGATE
    assert request.per_example is True
    unset = ("normalizer", "gradients", "weights", "mask", "cotangent")
    assert not any(request.HasField(name) for name in unset)


def test_everything_that_is_said_arrives() -> None:
    request = build(
        inputs={"predictions": [1.0, 2.0], "targets": np.array([1, 2], np.float32)},
        weights=[0.5, 1.0],
        mask=[True, False],
        reduction="batch_mean",
        gradients=("targets",),
        per_example=False,
        cotangent=2.0,
        normalizer=3,
        empty="error",
        nonfinite="zero",
    )
    assert request.loss.HasField("huber")
    assert request.reduction == v1.REDUCTION_BATCH_MEAN
    assert request.empty == v1.EMPTY_POLICY_ERROR
    assert request.nonfinite == v1.NONFINITE_POLICY_ZERO
    assert (request.per_example, request.normalizer) == (False, 3.0)
    assert list(request.gradients.inputs) == ["targets"]
    assert tensors.read(request.weights).tolist() == [0.5, 1.0]
    assert tensors.read(request.mask).tolist() == [True, False]
    assert tensors.read(request.cotangent).shape == ()
    assert [named.name for named in request.inputs] == ["predictions", "targets"]
    assert tensors.read(request.inputs[1].tensors[0]).dtype == np.float32


def test_no_gradient_at_all_is_said_on_the_wire() -> None:
    decoded = v1.ComputeLossRequest.FromString(build(gradients=()).SerializeToString())
    assert decoded.HasField("gradients")
    assert not decoded.gradients.inputs


def test_a_list_of_arrays_becomes_several_tensors() -> None:
    maps = {"predictions": [np.zeros((2, 3)), np.zeros(4)]}
    request = build_request(v1.FeatureMatching(), maps).message
    assert [list(each.shape) for each in request.inputs[0].tensors] == [[2, 3], [4]]


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float16).reshape(2, 3),
        np.arange(6).astype(ml_dtypes.bfloat16),
        np.arange(6, dtype=">f8"),
        np.arange(12, dtype=np.int16).reshape(3, 4).T,
        np.zeros((0, 3), np.float32),
    ],
)
def test_arrays_arrive_with_type_and_values_and_are_not_written_to(value: Any) -> None:
    value.flags.writeable = False
    before = value.copy()
    arrived = tensors.read(build(inputs={"predictions": value}).inputs[0].tensors[0])
    assert arrived.dtype == value.dtype.newbyteorder("=")
    np.testing.assert_array_equal(arrived, value)
    np.testing.assert_array_equal(value, before)


@pytest.mark.parametrize("name", ["weights", "mask", "cotangent"])
def test_a_bad_array_is_refused_by_name(name: Any) -> None:
    with pytest.raises(client.InvalidRequestError, match=f"^{name} must hold"):
        build(**{name: "text"})


def test_more_bytes_than_a_message_holds_are_refused_before_they_are_copied() -> None:
    large = np.empty(2**31, np.uint8)  # never touched, so that it takes no memory
    with pytest.raises(client.InvalidRequestError, match="tensors must have at most"):
        build(inputs={"predictions": large})
