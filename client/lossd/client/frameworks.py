"""Converts results to PyTorch, where NumPy's own conversion does not work.

A framework is looked for when it is asked for.
"""

import importlib
from typing import Any

import ml_dtypes
import numpy as np

from lossd.client.arrays import Array  # noqa: TC001 - a type hint that may be asked for
from lossd.client.device_arrays import is_on_device
from lossd.client.errors import InvalidRequestError
from lossd.client.extras import missing


def to_torch(array: "Array | list[Array]") -> Any:
    """Returns an array of a result as a PyTorch tensor of the same type, bfloat16 included.

    One on a device stays there, and shares its memory with the tensor.

        gradient = to_torch(result.gradients["predictions"])

    PyTorch's own ``from_numpy`` does not take NumPy's bfloat16, and warns of read-only arrays such
    as those of results. Read-only arrays are copied; a writable one shares its memory with the
    tensor.

    Args:
        array: An array, or a list of them for a list of tensors.

    Raises:
        InvalidRequestError: if it is no array, such as the None of what was not asked for.
        ImportError: if PyTorch is not installed.
    """
    if isinstance(array, list):
        return [to_torch(each) for each in array]
    if not isinstance(array, np.ndarray) and not is_on_device(array):
        raise InvalidRequestError(
            f"array must be one of a result, got {type(array).__name__}", field="array"
        )
    try:
        torch = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise missing(error, "torch") from error
    if is_on_device(array):
        is_bfloat16 = array.dtype == ml_dtypes.bfloat16
        found = torch.from_dlpack(array.view(np.int16) if is_bfloat16 else array)
        return found.view(torch.bfloat16) if is_bfloat16 else found
    own = array if array.flags.writeable and array.flags.c_contiguous else array.copy(order="C")
    if own.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(own.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(own)
