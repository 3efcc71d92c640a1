"""The one reader and writer of ``Tensor``, used by both sides of the wire.

It raises ``TensorError`` for anything that a peer can get wrong.
"""

import functools
import math
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from lossd import v1
from lossd.framing import Bytes, Payloads

type_of_dtype = MappingProxyType(
    {
        np.dtype(np.bool_): v1.D_TYPE_BOOL,
        np.dtype(np.uint8): v1.D_TYPE_UINT8,
        np.dtype(np.uint16): v1.D_TYPE_UINT16,
        np.dtype(np.uint32): v1.D_TYPE_UINT32,
        np.dtype(np.uint64): v1.D_TYPE_UINT64,
        np.dtype(np.int8): v1.D_TYPE_INT8,
        np.dtype(np.int16): v1.D_TYPE_INT16,
        np.dtype(np.int32): v1.D_TYPE_INT32,
        np.dtype(np.int64): v1.D_TYPE_INT64,
        np.dtype(np.float16): v1.D_TYPE_FLOAT16,
        np.dtype(ml_dtypes.bfloat16): v1.D_TYPE_BFLOAT16,
        np.dtype(np.float32): v1.D_TYPE_FLOAT32,
        np.dtype(np.float64): v1.D_TYPE_FLOAT64,
    }
)
dtype_of_type = MappingProxyType({kind: dtype for dtype, kind in type_of_dtype.items()})

Array = npt.NDArray[Any]

MAX_AXES = 8
MAX_ELEMENTS = 1 << 48  # beyond any memory, but byte counts do not overflow

# Returns a number of bytes at a place in shared memory.
Shared = Callable[[v1.SharedMemory, int], "Bytes | npt.NDArray[np.uint8]"]
# The same in the memory of a device.
OnDevice = Callable[[v1.DeviceMemory, int], "Bytes | npt.NDArray[np.uint8]"]


class TensorError(ValueError):
    """A ``Tensor`` that breaks a rule; the message says which, without naming the tensor."""

    def __init__(self, field: str, message: str) -> None:
        """Keeps the ``field`` of the tensor that is at fault, for example ``"shape[1]"``."""
        super().__init__(message)
        self.field = field


def read(
    tensor: v1.Tensor,
    payloads: Payloads | None = None,
    shared: Shared | None = None,
    device: OnDevice | None = None,
) -> Array:
    """Returns the tensor as a read-only array over its bytes, which need not be aligned.

    ``payloads`` has the bytes where the message was parsed with references to them, ``shared``
    gives those in shared memory, ``device`` those in device memory.

    Raises:
        TensorError: for an unknown type, a bad shape, a number of bytes that does not fit it, or a
            boolean that is neither 0 nor 1.
    """
    dtype = dtype_of_type.get(tensor.dtype)
    if dtype is None:
        names = ", ".join(map(v1.DType.Name, dtype_of_type))
        raise TensorError("dtype", f"dtype must be one of {names}, got {tensor.dtype}")
    if len(tensor.shape) > MAX_AXES:  # before anything is iterated
        raise TensorError(
            "shape", f"shape must have at most {MAX_AXES} axes, got {len(tensor.shape)}"
        )
    shape = tuple(tensor.shape)
    expected = _elements(shape) * dtype.itemsize
    data = _source(tensor, expected, payloads, shared, device)
    if len(data) != expected:
        raise TensorError(
            "data",
            f"data must have {expected} bytes for shape {list(shape)} of {dtype.name}, "
            f"got {len(data)}",
        )
    array: Array = np.ndarray(shape, dtype, data)
    if dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
        # In NumPy any other byte would be a boolean that is neither True nor False.
        raise TensorError("data", f"data must hold 0 or 1, got {array.view(np.uint8).max()}")
    return array


def _source(
    tensor: v1.Tensor,
    size: int,
    payloads: Payloads | None,
    shared: Shared | None,
    device: OnDevice | None,
) -> "Bytes | npt.NDArray[np.uint8]":
    source = tensor.WhichOneof("source")
    if source == "shared_memory" and shared is not None:
        return shared(tensor.shared_memory, size)
    if source == "device_memory" and device is not None:
        return device(tensor.device_memory, size)
    if source != "data":
        raise TensorError("data", f"data must be set, got {source or 'no source'}")
    held = tensor.data  # every access to the field copies it
    return held if payloads is None else payloads[held]


@functools.lru_cache(maxsize=256)
def _elements(shape: tuple[int, ...]) -> int:
    """Returns how many elements a shape has.

    Raises:
        TensorError: for one that no tensor has.
    """
    if min(shape, default=0) < 0:
        axis = next(axis for axis, size in enumerate(shape) if size < 0)
        raise TensorError(f"shape[{axis}]", f"shape[{axis}] must be at least 0, got {shape[axis]}")
    # Even where another axis is 0: NumPy counts the bytes without it.
    if math.prod(filter(None, shape)) > MAX_ELEMENTS:
        raise TensorError(
            "shape",
            f"shape must multiply to at most {MAX_ELEMENTS}, axes of 0 aside, got {list(shape)}",
        )
    return math.prod(shape)


def fill(tensor: v1.Tensor, array: Array, payloads: Payloads | None = None) -> None:
    """Writes an array into a ``Tensor`` message, in C order and little endian.

    With ``payloads`` the message holds a reference and they the bytes, uncopied where possible.

    Raises:
        TensorError: if the array's type does not exist on the wire, or it has too many axes.
    """
    describe(tensor, array.dtype, array.shape)
    array = np.asarray(array, wire_order(array.dtype))
    if payloads is None:
        tensor.data = array.tobytes()
        return
    flat = np.ascontiguousarray(array).reshape(-1)
    tensor.data = payloads.add(flat.view(np.uint8).data)


def wire_order(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns a type whose numbers have their bytes in the order of the wire, little endian."""
    return dtype.newbyteorder("<") if dtype.byteorder == ">" else dtype


def refer(tensor: v1.Tensor, array: Array, place: v1.SharedMemory | v1.DeviceMemory) -> None:
    """Writes an array's type and shape, and the place in memory that is shared where it lies.

    There its numbers have the order of the wire.

    Raises:
        TensorError: as ``fill``.
    """
    describe(tensor, array.dtype, array.shape)
    if isinstance(place, v1.DeviceMemory):
        tensor.device_memory.CopyFrom(place)
    else:
        tensor.shared_memory.CopyFrom(place)


def describe(tensor: v1.Tensor, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Writes the type and shape of an array.

    Raises:
        TensorError: as ``fill``.
    """
    kind = type_of_dtype.get(dtype.newbyteorder("="))
    if kind is None:
        names = ", ".join(known.name for known in type_of_dtype)
        raise TensorError("dtype", f"dtype must be one of {names}, got {dtype}")
    if len(shape) > MAX_AXES:
        raise TensorError("shape", f"shape must have at most {MAX_AXES} axes, got {len(shape)}")
    tensor.dtype = kind
    tensor.shape[:] = shape
