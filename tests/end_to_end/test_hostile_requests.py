"""Whatever a caller sends, the answer is clear and the next call is served."""

from collections.abc import Callable
from typing import Any, cast

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from lossd import tensors, v1
from lossd.client import LossClient, OverloadedError
from lossd.v1 import CrossEntropy, Huber, SquaredError
from tests.end_to_end.raw import unary

METHOD = "/lossd.v1.LossService/ComputeLoss"


def request(loss: Any = None, **inputs: Any) -> v1.ComputeLossRequest:
    """A request for cross-entropy that is right, but for what a test changes."""
    made = v1.ComputeLossRequest(loss=loss or v1.LossSpec(cross_entropy=CrossEntropy()))
    given = {"predictions": np.zeros((2, 3), np.float32), "targets": np.array([0, 2])} | inputs
    for name, array in given.items():
        tensors.fill(made.inputs.add(name=name).tensors.add(), array)
    return made


def tensor(made: v1.ComputeLossRequest, position: int = 0) -> v1.Tensor:
    return made.inputs[position].tensors[0]


def wrong_dtype() -> bytes:
    made = request()
    tensor(made).dtype = cast("Any", 999)
    return made.SerializeToString()


def integer_predictions() -> bytes:
    return request(predictions=np.zeros((2, 3), np.int64)).SerializeToString()


def wrong_shape() -> bytes:
    return request(targets=np.array([0, 1, 2])).SerializeToString()


def with_shape(*shape: int) -> Callable[[], bytes]:
    def make() -> bytes:
        made = request()
        tensor(made).shape[:] = shape
        return made.SerializeToString()

    return make


def wrong_byte_count() -> bytes:
    made = request()
    tensor(made).data = tensor(made).data[:-1]
    return made.SerializeToString()


def no_source() -> bytes:
    made = request()
    tensor(made).ClearField("data")
    return made.SerializeToString()


def label_out_of_range() -> bytes:
    return request(targets=np.array([0, 3])).SerializeToString()


def negative_delta() -> bytes:
    made = request(v1.LossSpec(huber=Huber(delta=-1)), targets=np.zeros((2, 3), np.float32))
    return made.SerializeToString()


def truncated() -> bytes:
    return request().SerializeToString()[:-3]


def unknown_loss() -> bytes:
    # Member 99 of LossSpec.kind, empty.
    return request(v1.LossSpec.FromString(b"\x9a\x06\x00")).SerializeToString()


def no_loss() -> bytes:
    return request(v1.LossSpec()).SerializeToString()


def unknown_reduction() -> bytes:
    made = request()
    made.reduction = cast("Any", 99)
    return made.SerializeToString()


def missing_input() -> bytes:
    made = request()
    del made.inputs[1]
    return made.SerializeToString()


def input_given_twice() -> bytes:
    made = request()
    made.inputs.append(made.inputs[0])
    return made.SerializeToString()


def two_million_empty_tensors() -> bytes:
    return request().SerializeToString() + b"\xa2\x01\x00" * 2_000_000


def rows_one_by_one() -> bytes:
    made = request()
    for _ in range(100):
        made.inputs[0].tensors.append(tensor(made))
    return made.SerializeToString()


def a_shape_of_millions_of_axes() -> bytes:
    made = request()
    tensor(made).shape[:] = [1] * 2_000_000
    return made.SerializeToString()


def bad_utf8() -> bytes:
    return b"\xa2\x01\x04\x0a\x02\xc3\x28"


HOSTILE = [
    (wrong_dtype, "INVALID_ARGUMENT", "inputs[0].tensors[0].dtype"),
    (integer_predictions, "INVALID_ARGUMENT", "inputs.predictions.dtype"),
    (wrong_shape, "INVALID_ARGUMENT", "inputs.targets.shape"),
    (wrong_byte_count, "INVALID_ARGUMENT", "inputs[0].tensors[0].data"),
    (no_source, "INVALID_ARGUMENT", "inputs[0].tensors[0].data"),
    # 5 GiB declared in a small message, products that wrap round in 64 bits, negative sizes
    (with_shape(5 << 28), "INVALID_ARGUMENT", "inputs[0].tensors[0].data"),
    (with_shape(2, 1 << 62), "INVALID_ARGUMENT", "inputs[0].tensors[0].shape"),
    (with_shape(4, 1 << 32, 1 << 32), "INVALID_ARGUMENT", "inputs[0].tensors[0].shape"),
    (with_shape(-2, -3), "INVALID_ARGUMENT", "inputs[0].tensors[0].shape[0]"),
    (a_shape_of_millions_of_axes, "INVALID_ARGUMENT", "inputs[0].tensors[0].shape"),
    (label_out_of_range, "INVALID_ARGUMENT", "inputs.targets"),
    (negative_delta, "INVALID_ARGUMENT", "loss.huber.delta"),
    (truncated, "INVALID_ARGUMENT", ""),
    (bad_utf8, "INVALID_ARGUMENT", ""),
    (unknown_loss, "UNIMPLEMENTED", "loss"),
    (no_loss, "UNIMPLEMENTED", "loss"),
    (unknown_reduction, "INVALID_ARGUMENT", "reduction"),
    (missing_input, "INVALID_ARGUMENT", "inputs"),
    (input_given_twice, "INVALID_ARGUMENT", "inputs[2].name"),
    (rows_one_by_one, "INVALID_ARGUMENT", "inputs[0].tensors"),
    (two_million_empty_tensors, "RESOURCE_EXHAUSTED", "inputs"),
]


@pytest.mark.parametrize(
    ("make", "code", "field"),
    HOSTILE,
    ids=[f"{i}-{make.__name__}" for i, (make, *_) in enumerate(HOSTILE)],
)
def test_it_is_refused_clearly_and_the_next_call_is_served(
    server: Any, client: LossClient, make: Callable[[], bytes], code: str, field: str
) -> None:
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        cast("Any", channel.unary_unary(METHOD))(make(), timeout=10)
    error: Any = caught.value
    assert error.code().name == code, error.details()
    assert " must " in error.details()
    assert "Traceback" not in error.details()
    assert "/" not in error.details()  # no path of the server's
    assert _field(error) == field
    assert client.compute(SquaredError(), predictions=[2.0], targets=[1.0]).loss == 1.0


def _field(error: Any) -> str:
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(info)
    assert info.domain == "lossd"
    assert info.reason
    return str(info.metadata["field"])


def test_a_message_over_the_limit_is_refused_before_it_is_read(
    server: Any, client: LossClient
) -> None:
    with pytest.raises(OverloadedError, match="chunks of a call must have at most 536870912 bytes"):
        client.compute(
            SquaredError(),
            predictions=np.zeros(70 << 20, np.float64),
            targets=np.zeros(1, np.float64),
        )
    with (
        unary(server.address) as compute,
        pytest.raises(grpc.RpcError, match=r"(?i)larger than max|exhausted"),
    ):
        compute(bytes(520 << 20))
    assert client.compute(SquaredError(), predictions=[2.0], targets=[1.0]).loss == 1.0
