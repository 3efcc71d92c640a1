"""Memory of a device that the server allocated, opened here, and blocks of it.

CuPy is passed in; it knows nothing about servers.
"""

import contextlib
import threading
import weakref
from collections.abc import Collection
from typing import Any

import numpy as np

from lossd import v1
from lossd.client.device_space import DeviceSpace, UsedPart
from lossd.client.device_streams import Stream, Streams
from lossd.client.segments import Segment

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
        self._space = DeviceSpace(found.size, ALIGNMENT)
        self._blocks: weakref.WeakSet[DeviceBlock] = weakref.WeakSet()
        self.is_retired = False
        self.token, self.device, self.size = found.segment, device, found.size
        self.address: int = base + found.offset

    def take(self, size: int, streams: Streams, *, may_wait: bool) -> "DeviceBlock | None":
        """Returns a block of so many bytes for streams; None where none is free, or it is retired.

        Only where they may wait it is one that others have used, who are among its streams then.
        """
        with self._lock:
            part = None
            if not self.is_retired:
                part = self._space.take(size, streams, may_wait=may_wait)
            if part is None:
                return None
            block = DeviceBlock(self, part.start, part.end, {*part.streams, *streams})
            self._blocks.add(block)
            return block

    def add_stream(self, address: int, stream: Stream) -> "DeviceBlock | None":
        """Adds a stream that uses the block at an address; returns the block."""
        offset = address - self.address
        with self._lock:
            for block in self._blocks:
                if block.start <= offset < block.start + block.size:
                    block.streams.add(stream)
                    return block
        return None

    def remove_streams(self, block: "DeviceBlock", streams: Collection[Stream]) -> None:
        """Removes streams of a block that others have waited for."""
        with self._lock:
            block.streams.difference_update(streams)

    def retire(self) -> None:
        """Gives no more blocks; those in use stay valid."""
        with self._lock:  # which nobody holds for long
            self.is_retired = True

    def is_free(self) -> bool:
        """Returns whether no block of it is in use."""
        with self._lock:
            return self._space.is_free()

    def give_back(self, start: int, end: int, streams: Streams) -> None:
        """Returns a block; as this is whenever it is collected, nothing of the device is called."""
        self._space.give_back(UsedPart(start, end, streams))


class DeviceBlock:
    """A part of a segment; it is returned when the last array over it is collected.

    Attributes:
        streams: Those that may have something to do with it.
    """

    def __init__(self, segment: OpenedSegment, start: int, end: int, streams: set[Stream]) -> None:
        self.segment = segment
        self.start = start
        self.size = end - start
        self.streams = streams
        weakref.finalize(self, segment.give_back, start, end, streams).atexit = False

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
