"""Arrays go over the wire and come back as they were."""

from typing import Any, cast

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from lossd import tensors, v1


def there_and_back(array: tensors.Array) -> tensors.Array:
    tensor = v1.Tensor()
    tensors.fill(tensor, array)
    return tensors.read(v1.Tensor.FromString(tensor.SerializeToString()))


@pytest.mark.parametrize("dtype", tensors.type_of_dtype, ids=str)
@given(st.data())
def test_every_type_and_shape_survives_to_the_bit(
    dtype: np.dtype[Any], data: st.DataObject
) -> None:
    shape = data.draw(st_numpy.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=3))
    array = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    back = there_and_back(array)

    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_every_wire_type_has_a_numpy_type() -> None:
    assert set(tensors.dtype_of_type) == set(v1.DType.values()) - {v1.D_TYPE_UNSPECIFIED}


def test_big_endian_and_strided_arrays_arrive_in_order() -> None:
    array = np.arange(12, dtype=">f4").reshape(3, 4)[:, ::2].T

    np.testing.assert_array_equal(there_and_back(array), array)


def test_nan_payloads_survive() -> None:
    array = np.array([0x7FC1], np.uint16).view(ml_dtypes.bfloat16)

    assert there_and_back(array).tobytes() == array.tobytes()


def test_what_was_read_cannot_be_written_to() -> None:
    assert not there_and_back(np.zeros(3)).flags.writeable


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([1j]), np.array([None])], ids=str)
def test_types_without_a_wire_type_are_refused(array: tensors.Array) -> None:
    with pytest.raises(tensors.TensorError, match="dtype must be one of bool, "):
        tensors.fill(v1.Tensor(), array)


def test_a_boolean_that_is_neither_is_refused() -> None:
    tensor = v1.Tensor(dtype=v1.D_TYPE_BOOL, shape=[2], data=b"\x01\x02")

    with pytest.raises(tensors.TensorError, match="data must hold 0 or 1, got 2"):
        tensors.read(tensor)


@pytest.mark.parametrize("shape", [[0, 2**61], [2**40, 0, 2**40], [2**62, 2**62]])
def test_axes_that_no_array_could_have_are_refused(shape: list[int]) -> None:
    """Even of a tensor without elements, which a wider type would make an array too big."""
    tensor = v1.Tensor(dtype=v1.D_TYPE_FLOAT16, shape=shape, data=b"")

    with pytest.raises(tensors.TensorError, match=r"shape must multiply to at most .*, got") as got:
        tensors.read(tensor)
    assert got.value.field == "shape"


def test_more_axes_than_may_be_are_refused_on_both_sides() -> None:
    array, tensor = np.zeros((1,) * 9, np.int8), v1.Tensor()
    for write in (tensors.fill, lambda *_: tensors.refer(tensor, array, v1.SharedMemory())):
        with pytest.raises(tensors.TensorError, match="shape must have at most 8 axes, got 9"):
            write(tensor, array)
    assert tensor == v1.Tensor()
    tensor = v1.Tensor(dtype=v1.D_TYPE_INT8, shape=array.shape, data=b"\0")
    with pytest.raises(tensors.TensorError, match="shape must have at most 8 axes, got 9"):
        tensors.read(tensor)


def test_a_source_of_the_future_is_refused_not_taken_for_empty() -> None:
    tensor = v1.Tensor(dtype=v1.D_TYPE_FLOAT32, shape=[0])

    with pytest.raises(tensors.TensorError, match="data must be set"):
        tensors.read(tensor)


def test_the_type_is_refused_before_the_shape_is_looked_at() -> None:
    tensor = v1.Tensor(dtype=cast("Any", -1), shape=[-1])

    with pytest.raises(tensors.TensorError) as caught:
        tensors.read(tensor)

    assert caught.value.field == "dtype"
