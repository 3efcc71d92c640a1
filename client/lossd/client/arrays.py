"""Turns anything that NumPy can view into C-contiguous arrays, without importing a framework."""

import sys
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from lossd import tensors
from lossd.client.errors import InvalidRequestError

Array = npt.NDArray[Any]


def to_array(name: str, value: Any) -> Array:
    """Returns the value as a C-contiguous array of a type that the wire has.

    Takes arrays, numbers, nested lists, and objects with ``__array__``, ``__array_interface__`` or
    DLPack in the memory of the CPU; also tensors of PyTorch that record gradients or are of
    bfloat16. The value is copied only where its memory is not in C order, and never written to.

    Args:
        name: What to call the value in an error.
        value: The array-like.

    Raises:
        InvalidRequestError: if it is no such thing, or has a type that the wire lacks.
    """
    if not name.isascii() and not is_sendable(name):
        raise _invalid("inputs", f"inputs must have names of UTF-8, got {name!r:.64}")
    _refuse_masked(name, value)
    viewed = value if type(value) is np.ndarray else _viewed(name, value)
    _refuse_masked(name, viewed)  # as arrays in files are that are read when they are viewed
    array = np.asarray(viewed, order="C")
    known = tensors.type_of_dtype
    if array.dtype not in known and _in_native_order(array.dtype) not in known:
        raise unknown_type(name, _content(array, value))
    if array.ndim > tensors.MAX_AXES:
        raise _invalid(name, f"{name} must have at most {tensors.MAX_AXES} axes, got {array.ndim}")
    return array


def unknown_type(name: str, got: object) -> InvalidRequestError:
    """Returns the refusal of an array whose type the wire lacks."""
    types = ", ".join(dtype.name for dtype in tensors.type_of_dtype)
    return _invalid(name, f"{name} must hold one of {types}, got {got}")


def to_dtype(dtype: Any) -> npt.DTypeLike:
    """Returns NumPy's type for a type, which may be one of PyTorch's."""
    name = str(dtype)
    if not name.startswith("torch."):
        found: npt.DTypeLike = dtype
        return found
    own = name.removeprefix("torch.")
    return np.dtype(ml_dtypes.bfloat16 if own == "bfloat16" else own)


def is_sendable(text: str) -> bool:
    """Returns whether a text is one of UTF-8, which half of a surrogate pair is not."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def is_several(value: Any) -> bool:
    """Returns whether the value is a list or tuple of arrays, rather than of numbers or of lists.

    A list of arrays without axes is a list of numbers.
    """
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(_is_array(item) and getattr(item, "ndim", 1) > 0 for item in value)


def likely_bytes(value: Any) -> int:
    """Returns about how many bytes an array-like has, without converting it.

    It checks only the first item of lists, and counts items of unknown size as one number.
    """
    count = 1
    for _ in range(tensors.MAX_AXES):
        if not isinstance(value, list | tuple) or not value:
            break
        count *= len(value)
        value = value[0]
    size = getattr(value, "nbytes", 8)  # of other things than arrays a method, or a column
    return count * (size if isinstance(size, int) else 8)


def _is_array(value: Any) -> bool:
    views = ("__array__", "__array_interface__", "__dlpack__")
    return any(hasattr(value, view) for view in views)


def _refuse_masked(name: str, value: Any) -> None:
    """Refuses masked arrays, whose masks NumPy would silently drop."""
    if _has_masked(value):
        raise _invalid(name, f"{name} must be without a mask of its own, got {_masked(value)}")


def _has_masked(value: Any) -> bool:
    """Returns whether a value is a masked array, or a list that has one at any depth.

    What begins with a number is taken for numbers: of a masked one among them NumPy warns.
    """
    if not isinstance(value, list | tuple):
        return isinstance(value, np.ma.MaskedArray)
    seen, lists = {id(value)}, [value]  # a list may be within itself
    while lists:
        items = lists.pop()
        if not items or type(items[0]) in (float, int, bool):
            continue
        if any(isinstance(item, np.ma.MaskedArray) for item in items):
            return True
        nested = [x for x in items if isinstance(x, list | tuple) and id(x) not in seen]
        seen.update(map(id, nested))
        lists += nested
    return False


def _masked(value: Any) -> str:
    found = "" if isinstance(value, np.ma.MaskedArray) else f"{_kind(value)} of "
    return found + np.ma.MaskedArray.__name__


def _in_native_order(dtype: np.dtype[Any]) -> np.dtype[Any] | None:
    """Returns a type in the order of this machine; None where it has no order, as that of texts."""
    try:
        return dtype.newbyteorder("=")
    except TypeError:
        return None


def _viewed(name: str, value: Any) -> Array:
    try:
        value = _plain(value)
        if _is_torch_bfloat16(value):
            return _bfloat16(value)
        array: Array = np.asanyarray(value)
        if array.dtype == np.object_ and hasattr(value, "iloc"):
            return _of_columns(value)
        if array.dtype == np.object_ and hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)  # NumPy cannot read it in any other way
    except MemoryError:
        raise
    except Exception as error:
        # Ragged lists, and arrays on another device; each library has its own exception.
        raise _invalid(
            name, f"{name} must be an array in the memory of the CPU, got {_kind(value)}: {error}"
        ) from error
    return array


def _plain(value: Any) -> Any:
    """Returns a tensor without its graph and pending signs, with which PyTorch refuses a view."""
    if getattr(value, "requires_grad", False) is True and hasattr(value, "detach"):
        value = value.detach()
    for pending in ("resolve_conj", "resolve_neg"):
        value = getattr(value, pending)() if hasattr(value, pending) else value
    return value


def _of_columns(table: Any) -> Array:
    """Views each column of pandas by itself: together, those that may hold NA are objects."""
    if not hasattr(table, "columns"):
        return np.asarray(table)
    columns = [np.asarray(column) for _, column in table.items()]
    return np.stack(columns, axis=-1)


def _is_torch_bfloat16(value: Any) -> bool:
    return str(getattr(value, "dtype", "")) == "torch.bfloat16"


def _bfloat16(tensor: Any) -> Array:
    """Views the bits: PyTorch has bfloat16 neither for ``numpy()`` nor for NumPy's DLPack."""
    torch = sys.modules[type(tensor.dtype).__module__]
    return np.asarray(tensor.view(torch.int16)).view(ml_dtypes.bfloat16)


def _content(array: Array, value: Any) -> str:
    if array.dtype != np.object_:
        return str(array.dtype)
    if not array.ndim:
        return _kind(value)
    objects = f"objects in {_kind(value)}"
    for index, item in np.ndenumerate(array):
        if not _fits(item):
            return f"{objects}, of which {list(index)} is {item!r:.64}"
    held = _kind(array.flat[0]) if array.size else "nothing"
    return f"{objects}, the first of which is {held}"


def _fits(item: Any) -> bool:
    """Returns whether an object is a number that an array could hold as one."""
    if isinstance(item, int):
        return -(1 << 63) <= item < 1 << 64
    return isinstance(item, float | np.number | np.bool_)


def _kind(value: Any) -> str:
    return type(value).__name__


def _invalid(name: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(message, field=name)
