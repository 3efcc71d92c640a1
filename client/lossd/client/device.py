"""Tensors in memory of a GPU that the client shares with a server which uses the same one.

The server allocates the memory and frees it when the client is gone; the client opens it and hands
out parts of it as arrays of CuPy, which PyTorch and JAX take without a copy.  Whatever is missing
(CuPy, the same device, the same host, a namespace of processes, permission, room), everything goes
as it would without, through shared memory or the message.

CuPy is imported when device memory is first asked for, and only where a server offers some.
"""

import contextlib
import importlib
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from google.protobuf.message import Message

from lossd import tensors, v1
from lossd.client.arrays import Array
from lossd.client.call import ALLOCATE_DEVICE, GET_SERVER_INFO, RELEASE_DEVICE, Method
from lossd.client.device_arrays import OnDevice, fetched
from lossd.client.device_events import DeviceEvents
from lossd.client.device_segments import DeviceBlock, OpenedSegment
from lossd.client.device_streams import Stream, Streams, current_stream, stream_of, wait_for
from lossd.client.errors import (
    CancelledError,
    DeadlineExceededError,
    LossdError,
    PermissionDeniedError,
    UnavailableError,
)
from lossd.client.rest import Rest
from lossd.client.retry import may_answer_later
from lossd.client.segments import Segment
from lossd.client.waiting import NEVER, held, seconds, was_hurried

Ask = Callable[[Method[Any], Message, float], Any]

# How long to do without it after something went wrong.
REST_SECONDS = 1.0
ASK_SECONDS = 2.0
_ON_DEVICE = 3  # cudaMemcpyDeviceToDevice
_GRANULE = 8 << 20  # bytes that are asked for at least
_MOST_STREAMS = 8  # that one array is remembered to be used on


class DeviceSharing:
    """The device memory that one process shares with its server; may be used from many threads.

    ``ask`` calls a method once, with a message and a timeout; ``attach`` returns a segment of
    shared memory that the server has attached until a time on the clock, None where there is none.
    """

    def __init__(self, ask: Ask, attach: Callable[[float], Segment | None]) -> None:
        self._ask = ask
        self._attach = attach
        self._cupy: Any = None
        self._uuids: dict[int, bytes] = {}  # of the devices that the server uses too
        self._lease: Segment | None = None
        self._segments: list[OpenedSegment] = []
        self._lost: list[OpenedSegment] = []  # of a server that has ended, perhaps
        self._unreleased: list[bytes] = []  # tokens of segments that are closed here
        self._events = DeviceEvents()
        self._lock = threading.RLock()  # held while the server is asked
        self._rest = Rest()

    def empty(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        device: int | None = None,
        until: float = NEVER,
    ) -> Any:
        """Returns an array of CuPy, not filled, in device memory; None where none is in time."""
        size = math.prod(shape) * dtype.itemsize
        block = self.block(max(size, 1), device, until)
        return None if block is None else block.array(self._cupy, shape, dtype)

    def block(
        self,
        size: int,
        device: int | None = None,
        until: float = NEVER,
        streams: Streams = frozenset(),
    ) -> DeviceBlock | None:
        """Returns a block on a device, or on the current one; None where there is none in time.

        It is for the given streams, which wait for others that may still use it; without any, for
        the current one, and it may be written to in any way.
        """
        block = self._any_block(size, device, until, streams)
        if block is not None and len(block.streams) > max(len(streams), 1):
            self._take_over(block, streams)
        return block

    def _any_block(
        self, size: int, device: int | None, until: float, streams: Streams
    ) -> DeviceBlock | None:
        """Returns a block that other streams may still use."""
        with held(self._lock, until) as is_held:
            if not is_held:
                return None
            begun = time.monotonic()
            try:
                block = self._block_of_segments(size, device, streams) if self._segments else None
                if block is not None or self._rest.is_on:
                    return block
                return self._block_of_new_segment(size, device, until, streams)
            except PermissionDeniedError:  # nor will there be a moment later
                self._rest.begin_refused()
            except CancelledError:  # a call was given up, which says nothing about the server
                pass
            except (LossdError, OSError) as error:  # no server, another one, no room
                if not was_hurried(begun, until):
                    self._forget(error)
                    self._rest.begin(REST_SECONDS, is_answered=not may_answer_later(error))
            except ImportError:  # no CuPy
                self._rest.begin_for_good()
            except Exception:  # noqa: BLE001 - no device, one that is full, a handle of another
                self._rest.begin_refused()
            return None

    def _forget(self, error: Exception) -> None:
        """Forgets what the server said that an error may come from another one than."""
        self._uuids = {}
        if getattr(error, "reason", "") == "SEGMENT_NOT_FOUND":
            self._lease = None

    def on_host(self, name: str, array: OnDevice) -> Array:
        """Returns a copy on the host of an array in memory of this client, or of one that may go.

        Raises:
            InvalidRequestError: if it is another.
            UnavailableError: if its numbers may be gone, with the server that had the memory.
        """
        if _found(array, self._lost) is not None:
            raise UnavailableError(
                f"{name} must be in memory of a server that is there, got that of one that was "
                "lost: make it anew with device_empty"
            )
        segment = _found(array, self._segments)
        if segment is None:
            return fetched(name, array)
        cupy = self._cupy
        with cupy.cuda.Device(segment.device):
            cupy.cuda.runtime.streamSynchronize(array.stream)
            host: Array = cupy.asnumpy(self._over(array, segment.device))
        host.flags.writeable = False
        return host

    def end_rest(self) -> None:
        """Tries again at once, unless it is for what a server answered."""
        self._rest.end_unanswered()

    def lose_server(self) -> None:
        """Asks another one, since that which answered that it shares no memory is gone."""
        self._rest.end_answered()

    def is_left(self, token: bytes) -> bool:
        """Returns whether a segment was forgotten with its server, or given back."""
        return all(segment.token != token for segment in self._segments)

    def reset(self, until: float = NEVER) -> None:
        """Starts over, after a rest, since the server has changed."""
        with held(self._lock, until) as is_held:
            if not is_held:
                return
            self._rest.begin(REST_SECONDS, is_answered=False)
            self._lost = [s for s in self._lost if not s.is_free()]
            self._lost += self._segments
            self._segments, self._lease, self._uuids = [], None, {}
            self._unreleased.clear()

    def close(self) -> None:
        """Gives everything back that no array is over; the rest goes with its last array."""
        with self._lock:
            self._rest.begin_for_good()
            self._release_unused()
            self._segments, self._lost, self._lease = [], [], None
            self._events.clear()

    def _block_of_segments(
        self, size: int, device: int | None, streams: Streams
    ) -> DeviceBlock | None:
        """Returns a block that no other stream has used, if there is one."""
        where = self._cupy.cuda.Device().id if device is None else device
        users = streams or {current_stream(self._cupy, where)}
        taken = (
            segment.take(size, users, may_wait=may_wait)
            for may_wait in (False, True)
            for segment in self._segments
            if segment.device == where
        )
        return next((block for block in taken if block is not None), None)

    def _block_of_new_segment(
        self, size: int, device: int | None, until: float, streams: Streams
    ) -> DeviceBlock | None:
        if not self._uuids and not self._is_offered(until):
            self._rest.begin_refused()
            return None
        where = self._cupy.cuda.Device().id if device is None else device
        if where not in self._uuids:
            return None
        self._release_unused(until)
        segment = self._opened(size, where, until)
        self._segments.append(segment)
        return self._block_of_segments(size, where, streams)

    def _take_over(self, block: DeviceBlock, streams: Streams) -> None:
        """Has streams, or without any the caller, wait for others that used a block before."""
        device = block.segment.device
        others = block.streams - (streams or {current_stream(self._cupy, device)})
        wait_for(self._cupy, device, others, streams)
        block.segment.remove_streams(block, others)

    def _is_offered(self, until: float) -> bool:
        """Looks whether the server and this process have a device in common."""
        patience = seconds(ASK_SECONDS, until)
        info = self._ask(GET_SERVER_INFO, v1.GetServerInfoRequest(), patience)
        if not info.HasField("device_memory"):
            return False
        cupy = self._cupy = importlib.import_module("cupy")
        offered = set(info.device_memory.device_uuids)
        runtime = cupy.cuda.runtime
        for device in range(runtime.getDeviceCount()):
            uuid = bytes(runtime.getDeviceProperties(device)["uuid"])[:16]
            if uuid in offered:
                self._uuids[device] = uuid
        return bool(self._uuids)

    def _opened(self, size: int, device: int, until: float) -> OpenedSegment:
        lease = self._lease = self._lease or self._attach(until)
        if lease is None:
            raise OSError("a lease takes shared memory")
        asked = v1.AllocateDeviceRequest(
            size=max(size, _GRANULE), device_uuid=self._uuids[device], lease=lease.token
        )
        try:
            found = self._ask(ALLOCATE_DEVICE, asked, seconds(ASK_SECONDS, until))
        except (PermissionDeniedError, CancelledError):
            raise
        except LossdError:  # there may be room for what is needed, and no more
            asked.size = size
            found = self._ask(ALLOCATE_DEVICE, asked, seconds(ASK_SECONDS, until))
        try:
            return OpenedSegment(self._cupy, device, found, lease)
        except Exception:
            self._unreleased.append(found.segment)
            self._release_unused(until)
            raise

    def _release_unused(self, until: float = NEVER) -> None:
        unused = [segment for segment in self._segments if segment.is_free()]
        self._segments = [segment for segment in self._segments if segment not in unused]
        self._unreleased += [segment.token for segment in unused]
        unused.clear()  # closed here before they are freed there
        for token in list(self._unreleased):
            request = v1.ReleaseDeviceRequest(segment=token)
            try:
                self._ask(RELEASE_DEVICE, request, seconds(1.0, until))
            except (DeadlineExceededError, CancelledError):  # a later call asks again
                return
            except LossdError:  # it is freed with its lease at the latest
                pass
            self._unreleased.remove(token)

    def device_of_array(self, array: OnDevice, until: float) -> int | None:
        """Returns the device that an array is on; None where nothing there can be shared."""
        segment = _found(array, self._segments)
        if segment is not None:
            return segment.device
        if _found(array, self._lost) is not None:
            return None
        if self._cupy is None and self.block(1, until=until) is None:
            return None
        runtime = self._cupy.cuda.runtime
        with contextlib.suppress(runtime.CUDARuntimeError):  # of a device that is not seen here
            found: int = runtime.pointerGetAttributes(array.address).device
            return found
        return None

    def stream(self, array: OnDevice, device: int) -> Stream:
        """Returns the stream that is current for an array of a device."""
        return stream_of(self._cupy, array, device)

    def place(self, array: OnDevice, stream: Stream) -> v1.DeviceMemory | None:
        """Returns where an array lies in memory of the server; None if it lies elsewhere.

        Its memory then belongs to a stream too, as it is used there.
        """
        segment = _found(array, self._segments)
        if segment is None:
            return None
        block = segment.add_stream(array.address, stream)
        if block is not None and len(block.streams) > _MOST_STREAMS:
            self._take_over(block, {stream})
        if segment.is_retired:
            return None
        return v1.DeviceMemory(segment=segment.token, offset=array.address - segment.address)

    def copied(
        self, array: OnDevice, device: int, stream: Stream, until: float = NEVER
    ) -> tuple[v1.DeviceMemory, DeviceBlock] | None:
        """Returns where a copy of an array of a device lies, and its block; None without room."""
        block = self.block(array.nbytes, device, until, {stream})
        if block is None:
            return None
        address = block.segment.address + block.start
        with self._cupy.cuda.Device(device):
            self._cupy.cuda.runtime.memcpyAsync(
                address, array.address, array.nbytes, _ON_DEVICE, array.stream
            )
        return v1.DeviceMemory(segment=block.segment.token, offset=block.start), block

    def _over(self, array: OnDevice, device: int) -> Any:
        cupy = self._cupy
        memory = cupy.cuda.UnownedMemory(array.address, array.nbytes, array.value, device)
        return cupy.ndarray(array.shape, array.dtype, cupy.cuda.MemoryPointer(memory, 0))

    def array(self, block: DeviceBlock, tensor: v1.Tensor) -> Any:
        """Returns the array of a reply that lies in a block.

        Raises:
            TensorError: if it does not.
        """
        shape, dtype = tuple(tensor.shape), tensors.dtype_of_type.get(tensor.dtype)
        start = tensor.device_memory.offset - block.start
        size = 0 if dtype is None else math.prod(shape) * dtype.itemsize
        is_there = tensor.device_memory.segment == block.segment.token and start >= 0
        if dtype is None or not is_there or start + size > block.size:
            raise tensors.TensorError("device_memory", "it must lie in the reply's region")
        return block.array(self._cupy, shape, dtype, start)

    def recorded(
        self, device: int, streams: Iterable[int]
    ) -> contextlib.AbstractContextManager[bytes]:
        """Returns a context with the handle of an event of what streams have to do now."""
        return self._events.recorded(self._cupy, device, streams)

    def follow(self, segment: OpenedSegment, streams: Iterable[int]) -> None:
        """Has streams go on when the results of a call are complete."""
        with self._cupy.cuda.Device(segment.device):
            for stream in streams:
                self._cupy.cuda.runtime.streamWaitEvent(stream, segment.done)


def _found(array: OnDevice, segments: Iterable[OpenedSegment]) -> OpenedSegment | None:
    """Returns the segment that an array lies in."""
    for segment in segments:
        if 0 <= array.address - segment.address <= segment.size - array.nbytes:
            return segment
    return None
