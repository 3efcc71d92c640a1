"""Arrays on a device, as far as what they tell of themselves: no device is needed for that."""

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lossd.client import InvalidRequestError, LossClient
from lossd.client.device_arrays import is_on_device, on_device
from lossd.v1 import SquaredError

ADDRESS = 4096


@dataclass
class Told:
    """An array of some library that tells where it lies."""

    shape: tuple[int, ...]
    typestr: str = "<f4"
    strides: tuple[int, ...] | None = None
    stream: int | None = None
    dtype: Any = "float32"

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.typestr,
            "strides": self.strides,
            "stream": self.stream,
            "data": (ADDRESS, False),
            "version": 3,
        }


class Elsewhere:
    """An array of a library that has the interface, but is on the CPU itself."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        raise RuntimeError("not on a GPU")


@pytest.mark.parametrize("value", [1.0, [1.0], np.zeros(3), None, "text", Elsewhere()])
def test_what_is_on_the_host_is_not_on_a_device(value: Any) -> None:
    assert not is_on_device(value)


@pytest.mark.parametrize(
    ("typestr", "name", "expected"),
    [
        ("<f4", "float32", np.dtype(np.float32)),
        ("<f2", "float16", np.dtype(np.float16)),
        ("<V2", "bfloat16", np.dtype(ml_dtypes.bfloat16)),
        ("<i8", "int64", np.dtype(np.int64)),
        ("|b1", "bool", np.dtype(np.bool_)),
    ],
)
def test_type_shape_and_place_are_read(typestr: str, name: str, expected: Any) -> None:
    found = on_device("x", Told((3, 5), typestr, dtype=name))
    assert is_on_device(found.value)
    assert (found.dtype, found.shape, found.ndim) == (expected, (3, 5), 2)
    assert (found.size, found.nbytes) == (15, 15 * expected.itemsize)
    assert found.address == ADDRESS


@pytest.mark.parametrize(("told", "stream"), [(None, 0), (1, 0), (2, 2), (7777, 7777)])
def test_the_stream_that_writes_it_is_read(told: int | None, stream: int) -> None:
    assert on_device("x", Told((3,), stream=told)).stream == stream


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((3, 5), (20, 4)), ((1, 5), (999, 4)), ((3, 1), (4, 999)), ((0, 5), (7, 7)), ((), ())],
)
def test_strides_without_gaps_are_taken(shape: Any, strides: Any) -> None:
    assert on_device("x", Told(shape, strides=strides)).shape == shape


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Told((3, 5), strides=(4, 12)), "C order"),
        (Told((3, 5), strides=(40, 8)), "C order"),
        (Told((3,), "<c8"), "must hold one of"),
        (Told((1,) * 9), "at most 8 axes"),
    ],
)
def test_what_the_wire_lacks_is_refused(value: Told, says: str) -> None:
    with pytest.raises(InvalidRequestError, match=says) as error:
        on_device("x", value)
    assert error.value.field == "x"


def test_memory_that_is_not_shared_is_refused_by_name() -> None:
    with (
        LossClient("127.0.0.1:1") as client,
        pytest.raises(InvalidRequestError, match=r"targets must be .*CPU.*got Told on a device"),
    ):
        client.compute(SquaredError(), predictions=np.zeros(3), targets=Told((3,)), timeout=1)
