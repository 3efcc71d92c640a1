"""Converts tensors to what a client takes and back, without copies where they can be avoided."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import torch

from lossd import tensors
from lossd.client import arrays
from lossd.client.arrays import Array
from lossd.client.device_arrays import Movable, is_on_device
from lossd.client.errors import InvalidRequestError
from lossd.client.frameworks import to_torch

_NOWHERE = torch.empty(0)


def to_array(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> Array:
    """Returns a tensor's elements as an array, on the CPU, converted to ``dtype`` if it is given.

    The array shares the tensor's memory where it can.  A tensor of another device is converted
    there first, so that no more bytes than needed are copied.
    """
    tensor = tensor.detach()
    if dtype is not None:
        tensor = tensor.to(dtype)
    if tensor.device.type != "cpu":
        tensor = _fetched(tensor)
    tensor = tensor.resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:  # NumPy lacks it, ml_dtypes has it
        return np.asarray(tensor.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
    return tensor.numpy()


def to_input(tensor: torch.Tensor, dtype: torch.dtype | None) -> Array | Movable:
    """Returns a tensor as an input of a loss, converted to ``dtype`` if it is given.

    One on a CUDA device stays there if the server shares memory of that device.
    """
    if not is_on_device(tensor) or not tensor.numel():
        return to_array(tensor, dtype)
    tensor = tensor.detach()
    if dtype is not None:
        tensor = tensor.to(dtype)
    tensor = tensor.contiguous()
    return Movable(tensor, functools.partial(to_array, tensor))


def to_tensor(array: Any, device: torch.device) -> torch.Tensor:
    """Returns a result's array as a tensor on a device; where it is there they share memory.

    The tensor may be written to, which changes the array too.
    """
    tensor: torch.Tensor = to_torch(array if is_on_device(array) else _writable(np.asarray(array)))
    return tensor if tensor.device == device else _sent(tensor, device)


def as_tensor(name: str, given: Any) -> torch.Tensor:
    """Returns a tensor, or what arrays, numbers and lists of them make as one.

    Raises:
        InvalidRequestError: for what makes none.
    """
    given = _stacked(name, given)
    if isinstance(given, torch.Tensor):
        return given
    if not is_on_device(given):
        array = arrays.to_array(name, given)
        # A copy, as a backward pass to come has to read the same numbers.
        given = array.astype(array.dtype.newbyteorder("="))
    try:
        found: torch.Tensor = to_torch(given)
    except (TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"{name} must be a tensor or numbers that make one, got {type(given).__name__}",
            field=name,
        ) from error
    return found


def gathered(name: str, given: Any) -> Any:
    """Returns an input as tensors wherever it has any, so that their gradients are theirs.

    A list of tensors with axes stays one; numbers in lists become one tensor.

    Raises:
        InvalidRequestError: for tensors beside what makes none, or that do not go together.
    """
    if any(tensor.ndim for tensor in tensors_in(given)) and not isinstance(given, torch.Tensor):
        return [as_tensor(name, one) for one in given]
    return _stacked(name, given)


def _stacked(name: str, given: Any, depth: int = tensors.MAX_AXES) -> Any:
    """Returns lists that have tensors as one, through which gradients go; all else as it is."""
    kinds = (torch.Tensor, list, tuple)
    if not isinstance(given, list | tuple) or not any(isinstance(one, kinds) for one in given):
        return given
    items = [_stacked(name, one, depth - 1) for one in given] if depth else []
    if not tensors_in(items):
        return given
    every = [as_tensor(name, one) for one in items]
    return read(name, every, torch.stack)


def tensors_in(given: Any) -> list[torch.Tensor]:
    """Returns the tensors of an input, which is one, or a list that may have some."""
    several: Sequence[Any] = given if isinstance(given, list | tuple) else (given,)
    return [one for one in several if isinstance(one, torch.Tensor)]


def first_tensor(inputs: Iterable[Any]) -> torch.Tensor:
    """Returns the first tensor among inputs, or one of the CPU."""
    return next((one for given in inputs for one in tensors_in(given)), _NOWHERE)


def read(name: str, given: Any, reader: Callable[[Any], Any]) -> Any:
    """Returns what reads a tensor, or several.

    Raises:
        InvalidRequestError: for one that is sparse, nested or without numbers, for example, or of
            a class that has no array of NumPy.
    """
    if any(map(_is_packed, tensors_in(given))):
        raise _unread(name, "its numbers do not lie in order")
    try:
        return reader(given)
    except (TypeError, ValueError, RuntimeError) as error:
        if type(error) is RuntimeError and any(one.is_cuda for one in tensors_in(given)):
            raise  # the device may have failed, of which the tensor is not to blame
        raise _unread(name, str(error)) from error


def _unread(name: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{name} must be a dense tensor of a type that NumPy has, got one that cannot be "
        f"read: {why}",
        field=name,
    )


def _is_packed(tensor: torch.Tensor) -> bool:
    is_strided: bool = tensor.layout is torch.strided
    return not is_strided or tensor.is_nested or tensor.is_quantized


def _sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return tensor.to(device, non_blocking=True)


def _fetched(tensor: torch.Tensor) -> torch.Tensor:
    """Copies a device's tensor to pinned memory, which the device writes to directly."""
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return pinned.copy_(tensor)


class _WritableMemory:
    """The memory of a read-only array, as a writable one."""

    def __init__(self, array: Array) -> None:
        self._array = array  # keeps the memory alive
        address, _ = array.__array_interface__["data"]
        self.__array_interface__ = {**array.__array_interface__, "data": (address, False)}


def _writable(array: Array) -> Array:
    """Returns a view that PyTorch takes without a warning.

    Results are read-only so that nobody writes to them by accident, and PyTorch, which knows no
    read-only tensors, warns of each.  The memory belongs to this result alone.
    """
    if array.flags.writeable or not array.size:
        return array
    bits = array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array
    return np.asarray(_WritableMemory(bits)).view(array.dtype)
