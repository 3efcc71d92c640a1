import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration

from lossd import client, tensors, v1
from lossd.client.responses import read_response
from lossd.framing import Framed


def tensor(values: Any, dtype: Any) -> Any:
    message = v1.Tensor()
    tensors.fill(message, np.asarray(values, dtype))
    return message


def test_an_empty_response_reads_as_nothing() -> None:
    result = read_response(Framed(v1.ComputeLossResponse()))
    assert (result.loss, result.per_example, result.status) == (None, None, None)
    assert (result.gradients, result.statuses, result.outputs) == ({}, {}, {})
    assert result.server_timing == client.ServerTiming(
        receive=0.0, decode=0.0, queue=0.0, compute=0.0, evaluate=0.0
    )
    assert result.metrics == []


def test_a_full_response_reads_field_by_field() -> None:
    response = v1.ComputeLossResponse(
        loss=0.0,
        loss_sum=1.0,
        weight_sum=2.0,
        example_count=3,
        ignored_count=4,
        nonfinite_count=5,
        status=v1.STATUS_UNDEFINED,
        backend="cupy",
        server_timing=v1.ServerTiming(
            decode=Duration(nanos=1000), queue=Duration(), compute=Duration(seconds=2, nanos=500)
        ),
        statuses=v1.ExampleStatuses(
            indices=tensor([3, 7], np.int64), statuses=tensor([1, 200], np.uint8)
        ),
        per_example=tensor([1, math.nan], np.float32),
        gradients=[
            v1.NamedTensors(name="predictions", tensors=[tensor([1], ml_dtypes.bfloat16)]),
            v1.NamedTensors(name="maps", tensors=[tensor([1], "f4"), tensor([2], "f4")]),
        ],
        outputs=[v1.NamedTensors(name="log_sum_exp", tensors=[tensor([9], "f4")])],
    )
    result = read_response(Framed(response))
    assert result.loss == 0.0
    assert (result.loss_sum, result.weight_sum) == (1.0, 2.0)
    assert (result.example_count, result.ignored_count, result.nonfinite_count) == (3, 4, 5)
    assert (result.status, result.backend) == ("UNDEFINED", "cupy")
    assert result.server_timing == client.ServerTiming(
        receive=0.0, decode=1e-6, queue=0.0, compute=2.0000005, evaluate=0.0
    )
    assert result.statuses == {3: "NONFINITE", 7: "200"}
    np.testing.assert_array_equal(result.per_example, np.array([1, np.nan], np.float32))
    assert result.gradients["predictions"].dtype == ml_dtypes.bfloat16
    assert [each.tolist() for each in result.gradients["maps"]] == [[1.0], [2.0]]
    assert result.outputs["log_sum_exp"].tolist() == [9.0]


@pytest.mark.parametrize(("examples", "is_apart"), [(1000, True), (100_000, False)])
def test_who_keeps_what_is_small_keeps_no_gradients(examples: int, *, is_apart: bool) -> None:
    memory, gradient = np.ones(1 << 20, np.uint8), np.zeros(100_000, np.float32)
    response, numbers = v1.ComputeLossResponse(), np.zeros(examples, np.float32)
    for named, name, array in (
        (response.gradients, "predictions", gradient),
        (response.outputs, "log_sum_exp", numbers),
    ):
        tensors.refer(named.add(name=name).tensors.add(), array, v1.SharedMemory())
    tensors.refer(response.per_example, numbers, v1.SharedMemory())
    result = read_response(Framed(response), lambda _, size: memory[:size])
    assert np.may_share_memory(memory, result.gradients["predictions"])
    for array in (result.per_example, result.outputs["log_sum_exp"]):
        assert np.may_share_memory(memory, array) is not is_apart
        assert array.tobytes() == memory[: 4 * examples].tobytes()


def test_a_term_reads_field_by_field() -> None:
    names = set(v1.TermResult.DESCRIPTOR.fields_by_name) - {"status", "outputs"}
    numbers: dict[str, Any] = {name: number for number, name in enumerate(names, start=1)}
    outputs = [v1.NamedTensors(name="log_sum_exp", tensors=[tensor([9], "f4")])]
    term = v1.TermResult(**numbers, status=v1.STATUS_UNDEFINED, outputs=outputs)
    (read,) = read_response(Framed(v1.ComputeLossResponse(terms=[term]))).terms
    assert {name: getattr(read, name) for name in numbers} == numbers
    assert read.status == "UNDEFINED"
    assert {name: array.tolist() for name, array in read.outputs.items()} == {"log_sum_exp": [9]}


@pytest.mark.parametrize(
    "response",
    [
        v1.ComputeLossResponse(per_example=v1.Tensor(dtype=v1.D_TYPE_FLOAT32, shape=[3])),
        v1.ComputeLossResponse(per_example=v1.Tensor.FromString(b"\x08\x63")),
        v1.ComputeLossResponse(
            statuses=v1.ExampleStatuses(
                indices=tensor([3, 7], np.int64), statuses=tensor([1], np.uint8)
            )
        ),
    ],
)
def test_a_response_that_breaks_the_contract_is_the_servers_mistake(response: Any) -> None:
    with pytest.raises(client.ServerError, match=r"^response must hold valid tensors"):
        read_response(Framed(response))


def test_two_results_compare_by_identity_and_hash() -> None:
    first, second = (read_response(Framed(v1.ComputeLossResponse())) for _ in range(2))
    assert first != second
    assert len({first, second}) == 2
