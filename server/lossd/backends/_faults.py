"""Tells what a device does wrong, in the words of lossd.

Nothing here imports CuPy; the caller passes it in.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from lossd.backends._full import is_full
from lossd.errors import DeviceFull, DeviceLost, ServiceError


@contextlib.contextmanager
def faults(cupy: Any, device: int) -> Iterator[None]:
    """Raises what a device does in the words of lossd; what is in them already stays as it is.

    No device need be the current one.

    Raises:
        DeviceFull: if the device does not have enough memory.
        DeviceLost: if the device does not answer any more.
    """
    try:
        yield
    except ServiceError:
        raise
    except Exception as error:
        if not _answers(cupy, device):
            raise DeviceLost(f"device must answer, got: {error}") from error
        if not is_full(cupy, error):
            raise
        with cupy.cuda.Device(device):  # whose part of the pool it is that is freed
            cupy.get_default_memory_pool().free_all_blocks()
        raise DeviceFull(
            f"call must fit into the device's memory that is free, got: {error}"
        ) from error


def _answers(cupy: Any, device: int) -> bool:
    """Returns whether the device still works: some faults make it useless to the process."""
    runtime = cupy.cuda.runtime
    try:
        with cupy.cuda.Device(device):
            runtime.deviceSynchronize()
    except runtime.CUDARuntimeError:
        return False
    return True
