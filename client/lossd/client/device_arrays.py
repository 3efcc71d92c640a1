"""Arrays in the memory of a GPU, as far as a request says them, without importing a framework.

Every library of arrays on CUDA devices tells where an array lies in one form,
``__cuda_array_interface__``; bfloat16, which that form does not have, goes by its bits.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from lossd import tensors
from lossd.client.arrays import Array
from lossd.client.errors import InvalidRequestError

# What the form calls streams that have no address.
_DEFAULT_STREAMS = {None: 0, 0: 0, 1: 0, 2: 2}


@dataclass(frozen=True, slots=True, eq=False)
class OnDevice:
    """An array on a CUDA device: its type, its shape and where it lies.

    Attributes:
        value: The array as it was given.
        stream: The address of the stream that writes it.
    """

    value: Any
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    address: int
    stream: int

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, slots=True, eq=False)
class Movable:
    """An array on a CUDA device that may go to the host if the server cannot have it there.

    Attributes:
        value: The array, as its library has it.
        fetch: Returns a copy of it on the host.
    """

    value: Any
    fetch: Callable[[], Array]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of elements along each axis."""
        return tuple(self.value.shape)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def __array__(self, dtype: Any = None, **_: Any) -> Array:
        return np.asarray(self.fetch(), dtype)


def is_on_device(value: Any) -> bool:
    """Returns whether a value is an array on a CUDA device, without looking at it closely."""
    kind = type(value)
    if kind is np.ndarray:
        return False
    if kind is Movable:
        return True
    device = getattr(value, "is_cuda", None)  # PyTorch's, whose form is dear to ask for
    if isinstance(device, bool):
        return device
    if not hasattr(kind, "__cuda_array_interface__"):
        return False
    try:
        return value.__cuda_array_interface__ is not None
    except Exception:  # noqa: BLE001 - whatever an array raises that is elsewhere
        return False


def on_device(name: str, value: Any) -> OnDevice:
    """Returns what a request says of an array on a CUDA device.

    Args:
        name: What to call it in an error.
        value: The array.

    Raises:
        InvalidRequestError: if it has gaps, or a type that the wire lacks.
    """
    if isinstance(value, Movable):
        return replace(on_device(name, value.value), value=value)
    if getattr(value, "requires_grad", False) is True:
        value = value.detach()
    dtype = None
    given = value
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":
        given, dtype = value.view(_torch(value).int16), np.dtype(ml_dtypes.bfloat16)
    told = given.__cuda_array_interface__
    dtype = dtype or _dtype(told["typestr"], value)
    shape = tuple(told["shape"])
    if dtype not in tensors.type_of_dtype:
        types = ", ".join(known.name for known in tensors.type_of_dtype)
        raise _invalid(name, f"{name} must hold one of {types}, got {dtype}")
    if not _has_no_gaps(told.get("strides"), shape, dtype):
        raise _invalid(name, f"{name} must lie in C order without gaps, got strides on a device")
    if len(shape) > tensors.MAX_AXES:
        raise _invalid(name, f"{name} must have at most {tensors.MAX_AXES} axes, got {len(shape)}")
    return OnDevice(value, dtype, shape, told["data"][0], _stream(told, value))


def is_of_pytorch(array: OnDevice) -> bool:
    """Returns whether an array is a tensor of PyTorch."""
    value = array.value.value if isinstance(array.value, Movable) else array.value
    return hasattr(value, "is_cuda")


def fetched(name: str, array: OnDevice) -> Array:
    """Returns a copy on the host of an array on a device, if it may go there.

    Raises:
        InvalidRequestError: if it may not.
    """
    if isinstance(array.value, Movable):
        return array.value.fetch()
    raise _foreign_error(name, array)


def _foreign_error(name: str, array: OnDevice) -> InvalidRequestError:
    """Returns the error for an array on a device whose memory is not shared."""
    return _invalid(
        name,
        f"{name} must be an array in the memory of the CPU, or of LossClient.device_empty, "
        f"got {type(array.value).__name__} on a device",
    )


def _dtype(typestr: str, value: Any) -> np.dtype[Any]:
    is_bfloat16 = typestr.endswith("V2") and "bfloat16" in str(getattr(value, "dtype", ""))
    return np.dtype(ml_dtypes.bfloat16 if is_bfloat16 else typestr)


def _stream(told: Any, value: Any) -> int:
    """Returns the stream that writes an array; PyTorch has one at a time."""
    if hasattr(value, "is_cuda"):
        return int(_torch(value).cuda.current_stream(value.device).cuda_stream)
    stream = told.get("stream")
    found: int = _DEFAULT_STREAMS.get(stream, stream)
    return found


def _torch(value: Any) -> Any:
    return sys.modules[type(value.dtype).__module__]


def _has_no_gaps(strides: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> bool:
    if strides is None or 0 in shape:
        return True
    expected = dtype.itemsize
    for size, stride in zip(reversed(shape), reversed(tuple(strides)), strict=True):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return True


def _invalid(name: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, field=name)
