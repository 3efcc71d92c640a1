"""Memory of the host that a device copies from and to by itself: the driver need not copy it first.

Nothing here imports CuPy; the caller passes it in.
"""

import contextlib
import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lossd.backends import Array

log = logging.getLogger(__name__)

ALIGNMENT = 256  # bytes, so that every array begins where any copy is at its fastest
PORTABLE = 1  # for every device of the process: cudaHostRegisterPortable and its like


class PinnedMemory:
    """Memory that others made and that is pinned here; for any number of threads."""

    def __init__(self, cupy: Any) -> None:
        self._runtime = cupy.cuda.runtime
        self._ranges: dict[int, int] = {}

    def pin(self, memory: Array) -> Callable[[], None]:
        """Pins memory; returns what undoes that, which waits for the copies under way.

        Memory that cannot be pinned stays as it is, and is copied by way of the driver's own.
        """
        start, size = memory.ctypes.data, memory.nbytes
        try:
            self._runtime.hostRegister(start, size, PORTABLE)
        except self._runtime.CUDARuntimeError as error:
            log.warning("memory is copied twice", extra={"because": str(error), "bytes": size})
            return _nothing
        self._ranges[start] = start + size
        return functools.partial(self._unpin, start)

    def holds(self, array: Array) -> bool:
        """Returns whether all of an array without gaps is pinned."""
        start = array.ctypes.data
        end = start + array.nbytes
        return any(first <= start and end <= last for first, last in list(self._ranges.items()))

    def _unpin(self, start: int) -> None:
        del self._ranges[start]
        with contextlib.suppress(self._runtime.CUDARuntimeError):  # the device may be lost
            self._runtime.hostUnregister(start)


def _nothing() -> None:
    """Does nothing."""


class Staging:
    """Pinned memory of one size, which arrays are put into one after the other."""

    def __init__(self, cupy: Any, size: int) -> None:
        pointer = cupy.cuda.PinnedMemoryPointer(cupy.cuda.PinnedMemory(size, PORTABLE), 0)
        self._memory = np.frombuffer(pointer, np.uint8, size)
        self._used = 0

    def clear(self) -> None:
        """Takes all of it back."""
        self._used = 0

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array | None:
        """Returns a new array in it; None if there is no room."""
        size = math.prod(shape) * dtype.itemsize
        end = self._used + size
        if end > len(self._memory):
            return None
        place = self._memory[self._used : end].view(dtype).reshape(shape)
        self._used = end + -end % ALIGNMENT
        return place
