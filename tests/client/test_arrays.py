import array as stdlib_array
from decimal import Decimal
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd import client
from lossd.client.arrays import is_several, likely_bytes, to_array, to_dtype


class ThroughArray:
    def __init__(self, array: Any) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._array


class ThroughInterface:
    def __init__(self, array: Any) -> None:
        self._array = array
        self.__array_interface__ = array.__array_interface__


class ThroughDlpack:
    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


class HasSizeAs:
    """Has something that is no number of bytes under the name of one."""

    def __init__(self, size: Any) -> None:
        self.nbytes = size


class OnAnotherDevice(ThroughDlpack):
    def __dlpack__(self, **_options: Any) -> None:
        raise BufferError("it is on a GPU")


@pytest.mark.parametrize("wrap", [np.asarray, ThroughArray, ThroughInterface, ThroughDlpack])
def test_every_protocol_gives_a_view_without_a_copy(wrap: Any) -> None:
    original = np.arange(6, dtype=np.float32).reshape(2, 3)
    array = to_array("predictions", wrap(original))
    assert np.shares_memory(array, original)
    np.testing.assert_array_equal(array, original)


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], np.float64, (2, 2)),
        ((1, 2, 3), np.int64, (3,)),
        ([True, False], np.bool_, (2,)),
        ([np.float32(1), np.float32(2)], np.float32, (2,)),
        (2.5, np.float64, ()),
        ([], np.float64, (0,)),
        (stdlib_array.array("f", [1, 2]), np.float32, (2,)),
        (np.zeros(3, np.float16), np.float16, (3,)),
        (np.zeros(3, ml_dtypes.bfloat16), ml_dtypes.bfloat16, (3,)),
        (np.zeros(3, np.longlong), np.int64, (3,)),
    ],
)
def test_lists_numbers_and_types_keep_their_meaning(value: Any, dtype: Any, shape: Any) -> None:
    array = to_array("predictions", value)
    assert array.dtype == dtype
    assert array.shape == shape


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(12.0)[::-2],
        np.asfortranarray(np.ones((3, 4))),
        np.broadcast_to(np.float32(2), (3, 4)),
    ],
)
def test_other_memory_orders_become_c_order_with_the_same_values(value: Any) -> None:
    array = to_array("predictions", value)
    assert array.flags.c_contiguous
    np.testing.assert_array_equal(array, value)


def test_read_only_and_big_endian_arrays_are_taken_as_they_are() -> None:
    value = np.arange(3, dtype=">f4")
    value.flags.writeable = False
    assert np.shares_memory(to_array("predictions", value), value)


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (object(), "object"),
        (None, "NoneType"),
        ({"a": 1}, "dict"),
        (iter([1.0]), "list_iterator"),
        ("text", "<U4"),
        (["1", "2"], "<U1"),
        ([1j], "complex128"),
        (np.zeros(2, np.longdouble), "float128"),
        (np.zeros(2, "M8[s]"), "datetime64"),
        (np.zeros(2, "f4,f4"), "f0"),
        ([0, 2**70], "objects in list, of which [1] is 1180591620717411303424"),
        ([[1.0, None]], "objects in list, of which [0, 1] is None"),
        ([[1, -(1 << 63) - 1]], "of which [0, 1] is -9223372036854775809"),
        ([np.float32(1), Decimal("0.1")], "objects in list, of which [1] is Decimal('0.1')"),
        (np.array([1.0, True, np.int8(1)], object), "in ndarray, the first of which is float"),
        (np.array([1.0, "a"], object), "objects in ndarray, of which [1] is 'a'"),
        (
            np.array([np.zeros(2), np.zeros(3)], object),
            "objects in ndarray, of which [0] is array([0., 0.])",
        ),
        (np.zeros(0, object), "objects in ndarray, the first of which is nothing"),
        (np.zeros(2, ml_dtypes.float8_e5m2), "float8_e5m2"),
        (np.array(["a"], np.dtypes.StringDType()), "StringDType"),
    ],
)
def test_what_the_wire_cannot_hold_is_refused_by_name(value: Any, got: Any) -> None:
    with pytest.raises(
        client.InvalidRequestError, match=r"^targets must hold one of .*bfloat16"
    ) as e:
        to_array("targets", value)
    assert got in str(e.value).partition(", got ")[2]
    assert e.value.field == "targets"


def test_a_name_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(client.InvalidRequestError, match=r"^inputs must have names of UTF-8, got"):
        to_array("\ud800", [1.0])
    assert to_array("ü", [1.0]).shape == (1,)


class Failing:
    """As arrays of libraries that have errors of their own."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise LookupError("it was deleted")


@pytest.mark.parametrize("value", [[[1.0], [1.0, 2.0]], OnAnotherDevice(np.zeros(2)), Failing()])
def test_ragged_lists_and_what_is_elsewhere_are_refused_by_name(value: Any) -> None:
    with pytest.raises(
        client.InvalidRequestError, match=r"^targets must be an array in the memory"
    ):
        to_array("targets", value)


MASKED = np.ma.masked_array([1.0, 2.0], [True, False])


@pytest.mark.parametrize(
    "value",
    [
        MASKED,
        [MASKED, [1.0, 2.0]],
        ([[1.0, 2.0]], (MASKED,)),
        [MASKED[0], 1.0],
        ThroughArray(MASKED),  # as a variable of a NetCDF file has its numbers
    ],
)
def test_a_masked_array_is_refused_rather_than_stripped_of_its_mask(value: Any) -> None:
    with pytest.raises(client.InvalidRequestError, match="without a mask of its own"):
        to_array("targets", value)


def test_a_list_of_lists_is_looked_through_once() -> None:
    endless: list[Any] = [[1.0]]
    endless.append(endless)
    with pytest.raises(client.InvalidRequestError, match=r"^targets must be an array"):
        to_array("targets", endless)


def test_too_many_axes_are_refused() -> None:
    with pytest.raises(client.InvalidRequestError, match="at most 8 axes, got 9"):
        to_array("targets", np.zeros((1,) * 9))


@pytest.mark.parametrize(
    ("value", "several"),
    [
        ([np.zeros(2), np.zeros(3)], True),
        ((ThroughDlpack(np.zeros(2)),), True),
        (np.zeros((2, 2)), False),
        ([[1.0], [2.0]], False),
        ([np.float32(1), np.float32(2)], False),
        ([np.zeros(2), [1.0]], False),
        ([], False),
    ],
)
def test_a_list_of_arrays_is_several_and_a_list_of_numbers_is_one(value: Any, several: Any) -> None:
    assert is_several(value) is several


@pytest.mark.oracle
def test_torch_tensors_of_every_kind_are_viewed() -> None:
    torch = pytest.importorskip("torch")
    values = torch.tensor([[1.0, -2.5], [3.0, float("inf")]])
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        tensor = values.to(dtype)
        for given in (tensor, tensor.clone().requires_grad_(), torch.nn.Parameter(tensor.clone())):
            array = to_array("predictions", given)
            assert array.dtype.name == str(dtype).removeprefix("torch.")
            np.testing.assert_array_equal(array.astype(np.float64), values.double().numpy())


@pytest.mark.oracle
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_torch_tensor_whose_sign_is_pending_has_it(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    tensors = pytest.importorskip("lossd.client.torch.tensors")
    values = torch.tensor([1.0, -2.0], dtype=getattr(torch, dtype))
    pending = torch._neg_view(values)
    for array in (to_array("predictions", pending), tensors.to_array(pending)):
        assert array.astype(float).tolist() == [-1.0, 2.0]


@pytest.mark.oracle
def test_a_torch_bfloat16_tensor_is_viewed_whatever_its_strides() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    assert to_array("predictions", tensor).ctypes.data == tensor.data_ptr()
    transposed = to_array("predictions", tensor.T)
    assert transposed.flags.c_contiguous
    np.testing.assert_array_equal(transposed.astype(float), tensor.T.double().numpy())
    number = to_array("predictions", torch.tensor(2.0, dtype=torch.bfloat16))
    assert (number.shape, float(number)) == ((), 2.0)


@pytest.mark.oracle
def test_a_torch_tensor_without_memory_is_refused() -> None:
    torch = pytest.importorskip("torch")
    for dtype in (torch.float32, torch.bfloat16):
        tensor = torch.zeros(2, dtype=dtype, device="meta")
        with pytest.raises(
            client.InvalidRequestError, match=r"in the memory of the CPU, got Tensor"
        ):
            to_array("predictions", tensor)


@pytest.mark.oracle
def test_a_list_of_torch_tensors_is_several() -> None:
    torch = pytest.importorskip("torch")
    assert is_several([torch.zeros(2), torch.zeros(3)])


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (np.zeros((3, 4), np.float32), 48),
        ([np.zeros(5, np.float32), np.zeros(5, np.float32)], 40),
        ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], 48),
        (2.5, 8),
        ([], 8),
        (ThroughDlpack(np.zeros(100)), 8),
        (HasSizeAs(lambda: 400), 8),  # as storages of PyTorch
        (HasSizeAs(np.ones(2)), 8),  # as a table with a column of that name
    ],
)
def test_the_size_of_what_is_not_an_array_yet_is_told_about(value: Any, size: int) -> None:
    assert likely_bytes(value) == size


def test_a_list_within_itself_has_a_size_too() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert likely_bytes(endless) == 8


@pytest.mark.parametrize("dtype", ["f4", np.float32, np.dtype(np.int8), float, ml_dtypes.bfloat16])
def test_a_type_of_numpy_is_itself(dtype: Any) -> None:
    assert to_dtype(dtype) is dtype


@pytest.mark.oracle
def test_a_type_of_torch_is_that_of_the_array_of_its_tensors() -> None:
    torch = pytest.importorskip("torch")
    floats = ["float16", "bfloat16", "float32", "float64"]
    names = [*floats, "bool", "uint8", "int8", "int16", "int32", "int64"]
    for dtype in (getattr(torch, name) for name in names):
        tensor = torch.zeros(2, dtype=dtype)
        assert np.empty(2, to_dtype(dtype)).dtype == to_array("predictions", tensor).dtype


def test_a_series_of_pandas_is_taken_whatever_its_index() -> None:
    pandas = pytest.importorskip("pandas")
    series = pandas.Series([0.5, 1.5], index=[7, 9])
    assert to_array("predictions", series).tolist() == [0.5, 1.5]
    assert not is_several(series)
    objects = pandas.Series([0.5, None], index=[7, 9], dtype=object)
    with pytest.raises(client.InvalidRequestError, match=r"in Series, of which \[1\] is None"):
        to_array("predictions", objects)


def test_a_table_of_pandas_is_taken_whatever_its_columns_could_hold() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [0.5, 1.5], "b": [2.0, 3.0]}, index=[7, 9]).astype("Float32")
    array = to_array("predictions", table)
    assert array.dtype == np.float32
    assert array.tolist() == [[0.5, 2.0], [1.5, 3.0]]
    table.iloc[0, 0] = pandas.NA
    np.testing.assert_array_equal(to_array("predictions", table), [[np.nan, 2.0], [1.5, 3.0]])
    with pytest.raises(client.InvalidRequestError, match=r"in DataFrame, of which \[0, 1\]"):
        to_array("predictions", pandas.DataFrame({"a": [0.5], "b": ["x"]}))
