"""Converts tensors to what a client takes and back, without copies where they can be avoided."""

import functools
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch

from lossd.client.device_arrays import Movable, is_on_device
from lossd.client.frameworks import to_torch

Array = npt.NDArray[Any]


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


def to_input(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> Array | Movable:
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


def _sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    return tensor.to(device, non_blocking=True)


def _fetched(tensor: torch.Tensor) -> torch.Tensor:
    """Copies a device's tensor to pinned memory, which the device writes to directly."""
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
    return pinned.copy_(tensor)


class _Memory:
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
    return np.asarray(_Memory(bits)).view(array.dtype)
