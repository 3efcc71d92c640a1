"""Streams of a device that used memory, remembered until others that get it waited for them.

A stream that was destroyed must not be touched, and its address may be that of another later; so
one that CuPy made is held here, and of one that nobody holds only the whole device can be waited
for.  CuPy is passed in.
"""

import threading
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from lossd.client.device_arrays import OnDevice, is_of_pytorch

# The default streams, by CUDA's names: one for all threads, under two names, and one of each.
_DEFAULT, _ALSO_DEFAULT, _PER_THREAD = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of a device.

    Attributes:
        address: What CUDA knows it by.
        thread: The thread whose stream it is, where each has one of that address.
        holder: What keeps it from being destroyed, if it has to be kept from that.
        is_lasting: Whether it can be waited for at any time, in any thread.
    """

    address: int
    thread: threading.Thread | None = None
    holder: Any = field(default=None, compare=False)
    is_lasting: bool = field(default=True, compare=False)


Streams = AbstractSet[Stream]


def stream_of(cupy: Any, array: OnDevice, device: int) -> Stream:
    """Returns the stream that is current for an array of a device."""
    if array.stream == _DEFAULT or is_of_pytorch(array):  # which destroys none
        return Stream(array.stream)
    current = current_stream(cupy, device)
    return current if current.address == array.stream else _unheld(array.stream)


def current_stream(cupy: Any, device: int) -> Stream:
    """Returns the stream that is current for CuPy in this thread."""
    with cupy.cuda.Device(device):
        current = cupy.cuda.get_current_stream()
    if current.ptr in {_DEFAULT, _ALSO_DEFAULT}:
        return Stream(_DEFAULT)
    is_held = isinstance(current, cupy.cuda.Stream) and current.ptr != _PER_THREAD
    return Stream(current.ptr, None, current) if is_held else _unheld(current.ptr)


def wait_for(cupy: Any, device: int, before: Collection[Stream], after: Collection[Stream]) -> None:
    """Has streams go on when what others have to do now is done; without any, the caller waits."""
    runtime = cupy.cuda.runtime
    with cupy.cuda.Device(device):
        if not all(stream.is_lasting for stream in before):
            runtime.deviceSynchronize()
            return
        for stream in before:
            event = cupy.cuda.Event(disable_timing=True)
            runtime.eventRecord(event.ptr, stream.address)
            for later in after:
                runtime.streamWaitEvent(later.address, event.ptr)
            if not after:
                event.synchronize()


def _unheld(address: int) -> Stream:
    thread = threading.current_thread() if address == _PER_THREAD else None
    return Stream(address, thread, is_lasting=False)
