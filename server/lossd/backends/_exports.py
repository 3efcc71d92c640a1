"""Memory of a device that another process uses too: made here, opened there through CUDA IPC.

On the host such memory is a range of addresses where nothing can be read.  Arrays over it have
types, shapes and parts like all arrays, so that they go through lossd as others do; only the
backend, which knows them by their address, does anything with their numbers.

Nothing here imports CuPy; the caller passes it in.
"""

import contextlib
import ctypes
import mmap
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lossd.backends._faults import faults
from lossd.backends._full import is_full
from lossd.backends._norms import Norms
from lossd.backends._rounding import Array
from lossd.errors import BackendUnavailable, DeviceFull, DeviceLost, InvalidRequest

# What cudaMalloc hands out in smaller parts would be open to other clients as well: a handle names
# the whole page.
PAGE_BYTES = 2 << 20
ALIGNMENT = 256  # bytes, so that every array begins where any copy is at its fastest
HANDLE_BYTES = 64
_MOST_EVENTS = 1024  # of clients that stay open
# How long to look whether an event is complete without a rest, and the longest rest.
_LOOKING_SECONDS, _REST_SECONDS = 50e-6, 1e-3
_NOT_READY = 600  # cudaErrorNotReady: what was recorded before an event is not done yet


class Resident(np.ndarray[Any, Any]):
    """An array on a device, without the numbers; whoever computes with it here is told so."""

    def __array_ufunc__(self, ufunc: Any, *_: Any, **__: Any) -> Any:
        raise TypeError(f"array must be on the host for {ufunc.__name__}, got one on a device")

    def __repr__(self) -> str:
        """Describes it: to print a number of it would end the process."""
        return f"<{self.dtype} of {self.shape} on a device>"

    __str__ = __repr__


class Exported:
    """Memory of a device and the handles to open it with; freed when no array over it is left.

    Attributes:
        device: The index of the device.
        size: Bytes.
        handle: What opens the allocation in another process.
        offset: Where in the allocation the memory begins.
        done_handle: What opens the event there that says when results are complete.
    """

    def __init__(self, cupy: Any, device: int, size: int) -> None:
        runtime = cupy.cuda.runtime
        with cupy.cuda.Device(device):
            self.memory = _allocated(cupy, size)
            start = self.memory.ptr
            base, whole = _range_of(start)
            if (base, whole) != (start, size):
                raise BackendUnavailable(
                    f"allocation must hold one client's memory, got {whole} bytes for {size}"
                )
            stream = cupy.cuda.Stream(non_blocking=True)
            runtime.memsetAsync(start, 0, size, stream.ptr)  # it may have been somebody else's
            stream.synchronize()
            self.handle: bytes = runtime.ipcGetMemHandle(start)
            self.done = cupy.cuda.Event(disable_timing=True, interprocess=True)
            self.done_handle: bytes = runtime.ipcGetEventHandle(self.done.ptr)
        self.device, self.size, self.offset = device, size, start - base
        kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
        self._range = mmap.mmap(-1, size, flags=kind, prot=0)
        self.address: int = np.frombuffer(self._range, np.uint8).ctypes.data

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """The interface for NumPy, whose arrays keep this."""
        place = (self.address, False)
        return {"shape": (self.size,), "typestr": "|u1", "data": place, "version": 3}

    def array(self) -> Resident:
        """Returns all of it as bytes."""
        return np.asarray(self).view(Resident)


def whole_pages(size: int) -> int:
    """Returns the bytes of the pages that so many bytes take."""
    return -(-size // PAGE_BYTES) * PAGE_BYTES


class Exports:
    """The memory that devices share with other processes; may be used from many threads.

    Every use of a device raises DeviceFull if it does not have enough memory, and DeviceLost if it
    does not answer any more.

    Attributes:
        uuids: The devices by what identifies them.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._error = cupy.cuda.runtime.CUDARuntimeError
        self._norms = Norms(cupy)
        self._idle: dict[int, Any] = {}  # streams that have nothing else to do, by device
        self.uuids: dict[bytes, int] = {}
        self._ranges: dict[int, weakref.ref[Exported]] = {}
        self._lock = threading.Lock()
        self._events: OrderedDict[bytes, int] = OrderedDict()  # by handle, opened here

    def add(self, device: int) -> None:
        """Adds the current device."""
        self._idle[device] = self._cupy.cuda.Stream(non_blocking=True)
        self.uuids[_uuid(self._cupy, device)] = device

    def check(self) -> None:
        """Tries to export memory of every device.

        Raises:
            BackendUnavailable: if that is not possible here.
        """
        try:
            for uuid in self.uuids:
                self.allocate(1, uuid)
        except (OSError, AttributeError, DeviceFull, DeviceLost, self._error) as error:
            raise BackendUnavailable(f"device memory must be shareable, got: {error}") from error

    def allocate(self, size: int, uuid: bytes) -> Exported:
        """Returns memory filled with zeros, of whole pages, on one of the devices."""
        device = self.uuids[uuid]
        with self._on(device):
            made = Exported(self._cupy, device, whole_pages(size))
        with self._lock:
            self._ranges[made.address] = weakref.ref(made)
        weakref.finalize(made, self._ranges.pop, made.address, None).atexit = False
        return made

    def of(self, array: Array) -> Exported | None:
        """Returns the memory that an array lies in; None for one on the host."""
        if not isinstance(array, Resident):
            return None
        start: int = array.__array_interface__["data"][0]
        for found in [reference() for reference in list(self._ranges.values())]:
            if found is not None and found.address <= start < found.address + found.size:
                return found
        raise TypeError("array must lie in exported memory, got one that does not")

    def on_device(self, array: Array) -> Any:
        """Returns an array of CuPy over the numbers of a resident one; None for one on the host."""
        exported = self.of(array)
        if exported is None:
            return None
        cupy = self._cupy
        start: int = array.__array_interface__["data"][0]
        pointer = cupy.cuda.MemoryPointer(exported.memory, start - exported.address)
        return cupy.ndarray(array.shape, array.dtype, pointer, strides=array.strides)

    def fetch(self, array: Array) -> Array:
        """Returns a copy on the host of a resident array; one that is there already as it is."""
        exported = self.of(array)
        if exported is None or not array.size:
            return array if exported is None else np.empty(array.shape, array.dtype)
        with self._stream(exported.device):
            host: Array = self._cupy.asnumpy(self.on_device(array))
            return host

    def put(self, source: Array, place: Array) -> None:
        """Copies an array of the host into a resident one."""
        exported = self.of(place)
        if exported is None or not place.size:
            return
        given = np.ascontiguousarray(source)  # there until it was copied
        with self._stream(exported.device) as stream:
            self.on_device(place).set(given, stream=stream)
            stream.synchronize()

    def norm(self, array: Array) -> float:
        """Returns the Euclidean norm of a resident array, added up in float64."""
        exported = self.of(array)
        if exported is None or not array.size:
            return 0.0
        with self._stream(exported.device):
            return self._norms.of(self.on_device(array))

    def wait(self, handle: bytes, exported: Exported, checkpoint: Callable[[], None]) -> None:
        """Waits until an event of a client is complete; ``checkpoint`` may raise to stop that.

        The host waits, and not a stream: what a client never completes must not hold up others.

        Raises:
            InvalidRequest: if there is no such event.
        """
        try:
            with self._on(exported.device):
                self._wait_for(self._opened(handle), checkpoint)
        except self._error as error:  # of a device that answers
            self._forget(handle)
            raise _no_event(str(error)) from error

    def signal(self, exported: Exported) -> None:
        """Says that the results of a call are complete, which were waited for."""
        with self._on(exported.device):
            exported.done.record(self._idle[exported.device])
            exported.done.synchronize()

    @contextlib.contextmanager
    def _on(self, device: int) -> Iterator[None]:
        """Makes a device the current one, and says what it does wrong."""
        with faults(self._cupy, device), self._cupy.cuda.Device(device):
            yield

    @contextlib.contextmanager
    def _stream(self, device: int) -> Iterator[Any]:
        """Yields a stream of one thread's own, which waits for no other."""
        with self._on(device), self._cupy.cuda.Stream(non_blocking=True) as stream:
            yield stream

    def _wait_for(self, event: int, checkpoint: Callable[[], None]) -> None:
        begun = time.perf_counter()
        rest = 0.0
        while not self._is_complete(event):
            checkpoint()
            if time.perf_counter() - begun > _LOOKING_SECONDS:
                rest = min(2 * rest or _LOOKING_SECONDS, _REST_SECONDS)
            time.sleep(rest)

    def _is_complete(self, event: int) -> bool:
        """Returns whether an event is complete; CuPy returns faults as well, which are raised."""
        status: int = self._cupy.cuda.runtime.eventQuery(event)
        if status not in {0, _NOT_READY}:
            raise self._error(status)
        return status == 0

    def _opened(self, handle: bytes) -> int:
        """Returns the event of a handle, opened once."""
        if len(handle) != HANDLE_BYTES:
            raise _no_event(f"{len(handle)} bytes")
        with self._lock:
            if handle in self._events:
                self._events.move_to_end(handle)
                return self._events[handle]
            event: int = self._cupy.cuda.runtime.ipcOpenEventHandle(handle)
            self._events[handle] = event
            if len(self._events) > _MOST_EVENTS:
                _, oldest = self._events.popitem(last=False)
                with contextlib.suppress(self._error):
                    self._cupy.cuda.runtime.eventDestroy(oldest)
        return event

    def _forget(self, handle: bytes) -> None:
        with self._lock:
            self._events.pop(handle, None)


def _allocated(cupy: Any, size: int) -> Any:
    """Returns memory straight from CUDA, not from a pool that others have a part of."""
    for is_last in (False, True):
        try:
            return cupy.cuda.Memory(size)
        except Exception as error:
            if not is_full(cupy, error):
                raise
            if is_last:
                raise DeviceFull(
                    f"device must have {size} bytes that are free, got: {error}"
                ) from error
        cupy.get_default_memory_pool().free_all_blocks()
    return None


def _range_of(address: int) -> tuple[int, int]:
    """Returns where the allocation that an address lies in begins, and its bytes."""
    base, size = ctypes.c_uint64(), ctypes.c_size_t()
    status = ctypes.CDLL("libcuda.so.1").cuMemGetAddressRange_v2(
        ctypes.byref(base), ctypes.byref(size), ctypes.c_uint64(address)
    )
    if status:
        raise OSError(f"driver must know the allocation, got error {status}")
    return base.value, size.value


def _uuid(cupy: Any, device: int) -> bytes:
    found = cupy.cuda.runtime.getDeviceProperties(device)["uuid"]
    return bytes(found)[:16]


def _no_event(got: str) -> InvalidRequest:
    return InvalidRequest(
        f"ready_event must be an event of the client's, got {got}", field="device.ready_event"
    )
