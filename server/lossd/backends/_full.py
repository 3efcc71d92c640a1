"""Tells that a device has too little memory, whoever says so.

CuPy's pool does where it is asked for an array.  Loading a kernel at its first use, a launch and a
library of CUDA's take memory beside the pool, and their errors are others.
"""

from typing import Any

_OUT_OF_MEMORY = 2  # of the runtime and of the driver
_NO_ROOM_FOR_CUBLAS = {1, 3}  # not initialised, which needs memory, and none left


def is_full(cupy: Any, error: Exception) -> bool:
    """Returns whether an error says that the device does not have enough memory."""
    cuda = cupy.cuda
    if isinstance(error, cuda.memory.OutOfMemoryError):
        return True
    status = getattr(error, "status", None)
    if isinstance(error, cuda.runtime.CUDARuntimeError | cuda.driver.CUDADriverError):
        return bool(status == _OUT_OF_MEMORY)
    # Without cuBLAS there is no such error, and its module cannot be asked for it.
    is_of_cublas = type(error).__name__ == "CUBLASError"
    return is_of_cublas and status in _NO_ROOM_FOR_CUBLAS
