"""Events that tell another process when streams of a device have done what they have to do now.

CuPy is passed in.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any


class DeviceEvents:
    """Events that are recorded again and again; for any number of threads."""

    def __init__(self) -> None:
        self._unused: deque[tuple[int, Any, bytes]] = deque()  # with device and handle
        self._lock = threading.Lock()

    def clear(self) -> None:
        """Forgets all that nobody uses."""
        with self._lock:
            self._unused.clear()

    @contextlib.contextmanager
    def recorded(self, cupy: Any, device: int, streams: Iterable[int]) -> Iterator[bytes]:
        """Yields the handle of an event that is complete when what streams have to do now is."""
        cuda, runtime = cupy.cuda, cupy.cuda.runtime
        with cuda.Device(device):
            kept = self._event(cupy, device)
            _, event, handle = kept
            several = list(streams)
            if len(several) > 1:
                with cuda.Stream(non_blocking=True) as joint:
                    for stream in several:
                        mark = cuda.Event(disable_timing=True)
                        runtime.eventRecord(mark.ptr, stream)
                        joint.wait_event(mark)
                    event.record(joint)
            else:
                runtime.eventRecord(event.ptr, several[0])
        try:
            yield handle
        finally:
            with self._lock:
                self._unused.append(kept)

    def _event(self, cupy: Any, device: int) -> tuple[int, Any, bytes]:
        with self._lock:
            for position, kept in enumerate(self._unused):
                if kept[0] == device:
                    del self._unused[position]
                    return kept
        event = cupy.cuda.Event(disable_timing=True, interprocess=True)
        return device, event, cupy.cuda.runtime.ipcGetEventHandle(event.ptr)
