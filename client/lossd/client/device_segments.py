"""Memory of a device that the server allocated, opened here, and blocks of it.

CuPy is passed in; it knows nothing about servers.
"""

import contextlib
import threading
import weakref
from typing import Any

import numpy as np

from lossd import v1
from lossd.client.segments import Segment
from lossd.client.spaces import Space

ALIGNMENT = 256  # bytes, so that every array begins where any copy is at its fastest


class OpenedSegment:
    """Memory that the server allocated, opened here; closed when no block of it is left.

    Attributes:
        token: Its identifier on the server.
        device: The index of its device in this process.
        address: Where it begins.
        size: How many bytes it has.
        done: The server's event, opened: results are complete.
        is_retired: Whether it gives no more blocks.
    """

    def __init__(
        self, cupy: Any, device: int, found: v1.AllocateDeviceResponse, lease: Segment
    ) -> None:
        runtime = cupy.cuda.runtime
        with cupy.cuda.Device(device):
            base = runtime.ipcOpenMemHandle(found.cuda_ipc)
            weakref.finalize(self, _close, runtime, device, base).atexit = False
            self.done: int = runtime.ipcOpenEventHandle(found.done_event)
        self._lease = lease  # whose lock ends with the last of these
        self._lock = threading.RLock()  # collecting garbage may return a block meanwhile
        self._space = Space(found.size, ALIGNMENT)
        self.is_retired = False
        self.token, self.device, self.size = found.segment, device, found.size
        self.address: int = base + found.offset

    def take(self, size: int) -> "DeviceBlock | None":
        """Returns a block of so many bytes; None where none is free, or it is retired."""
        with self._lock:
            part = None if self.is_retired else self._space.take(size)
            return None if part is None else DeviceBlock(self, *part)

    def retire(self) -> None:
        """Gives no more blocks; those in use stay valid."""
        with self._lock:  # which nobody holds for long
            self.is_retired = True

    def is_free(self) -> bool:
        """Returns whether no block of it is in use."""
        with self._lock:
            return not self._space.taken()

    def give_back(self, part: tuple[int, int]) -> None:
        """Returns a block."""
        self._space.give_back(part)


class DeviceBlock:
    """A part of a segment; it is returned when the last array over it is collected."""

    def __init__(self, segment: OpenedSegment, start: int, end: int) -> None:
        self.segment = segment
        self.start = start
        self.size = end - start
        weakref.finalize(self, segment.give_back, (start, end)).atexit = False

    def array(
        self, cupy: Any, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int = 0
    ) -> Any:
        """Returns an array of CuPy in the block."""
        address = self.segment.address + self.start + offset
        memory = cupy.cuda.UnownedMemory(address, self.size - offset, self, self.segment.device)
        return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(memory, 0))


def _close(runtime: Any, device: int, base: int) -> None:
    """Closes memory when the device has done with it."""
    with contextlib.suppress(runtime.CUDARuntimeError):
        before = runtime.getDevice()
        runtime.setDevice(device)
        try:
            runtime.deviceSynchronize()
            runtime.ipcCloseMemHandle(base)
        finally:
            runtime.setDevice(before)
