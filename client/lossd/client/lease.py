"""The memory that one call shares with its server: its inputs, and the region of its reply.

``sharing`` has the memory of the process, ``device_call`` what a call has on a device.
"""

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from lossd import tensors, v1
from lossd.client.arrays import Array
from lossd.client.device_arrays import OnDevice
from lossd.client.device_call import DeviceCall
from lossd.client.errors import LossdError, UnavailableError
from lossd.client.reply_room import reply_size, wanted_gradients
from lossd.client.requests import Request
from lossd.client.retry import was_answered
from lossd.client.sharing import WORTHWHILE_BYTES, Sharing
from lossd.client.waiting import NEVER
from lossd.framing import Framed

if TYPE_CHECKING:
    from lossd.client.segments import Block

Build = Callable[..., Request]  # takes ``place``, as ``requests.request_for``


class ClientLease:
    """The shared memory of one call, as a context.

    Blocks of inputs are returned when it ends, that of the reply when the arrays over it are gone.
    Where a task ends it while a thread still makes the request, the thread writes nothing more
    there.

    Memory may take half of the time that is left until the call ends, on the clock: where it takes
    longer, a message still goes in time.
    """

    def __init__(self, sharing: Sharing, until: float = NEVER) -> None:
        now = time.monotonic()
        self._sharing = sharing
        self._until = now + (until - now) / 2
        self._blocks: list[Block] = []
        self._segments: set[bytes] = set()  # tokens of those with an input, or the reply
        self._reply: Block | None = None
        self._device: DeviceCall | None = None
        self._has_ended = False
        self._is_cut = False
        self.in_use = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._has_ended = True
        is_done = was_answered(error) and not self._is_cut
        if self._reply is not None and not is_done:
            self._sharing.retire(self._reply.segment)
        if self._device is not None:
            self._device.end(was_answered=is_done)
        self._blocks.clear()
        self._reply = None

    def request(self, build: Build) -> Request:
        """Returns the request for a batch; large arrays and the reply go into shared memory.

        What is on a device stays there, unless no device memory can be shared.
        """
        request = build(place=self.place, bring=self._sharing.device.on_host)
        if self.in_use and not self._has_ended and isinstance(request, Framed):
            wanted = wanted_gradients(request.message, self._sharing.gradients)
            if self._device is not None:
                self._device.prepare(request.message, wanted)
            self._take_reply(request.message, wanted)
            self._sharing.let_idle_go(self._until)
        return request

    def place(self, array: Array | OnDevice) -> v1.SharedMemory | v1.DeviceMemory | None:
        """Returns where an array lies in memory that is shared; None for the message.

        It is copied there if need be.
        """
        if isinstance(array, OnDevice):
            return self._place_on_device(array)
        if array.nbytes < WORTHWHILE_BYTES or self._has_ended:
            return None
        dtype = tensors.wire_order(array.dtype)
        located = self._sharing.locate(array) if dtype == array.dtype else None
        if located is None:
            block = self._sharing.block(array.nbytes, self._until)
            if block is None:
                return None
            self._blocks.append(block)
            self._sharing.copier.copy(array, block.array(array.shape, dtype))
            located = block.segment, block.start
        self.in_use = True
        segment, offset = located
        self._segments.add(segment.token)
        return v1.SharedMemory(segment=segment.token, offset=offset)

    def _place_on_device(self, array: OnDevice) -> v1.DeviceMemory | None:
        if self._has_ended:
            return None
        self._device = self._device or DeviceCall(self._sharing.device, self._until)
        found = self._device.place(array)
        self.in_use = self.in_use or found is not None
        return found

    def on_device(self, tensor: v1.Tensor) -> Any:
        """Returns a tensor of the reply that is in device memory.

        Raises:
            TensorError: if it does not lie where the reply should.
        """
        if self._device is None:
            raise tensors.TensorError("device_memory", "it must lie in the reply's region")
        return self._device.array(tensor)

    def view(self, place: v1.SharedMemory, size: int) -> npt.NDArray[np.uint8]:
        """Returns the bytes of a tensor of the reply, read-only.

        Raises:
            TensorError: if they do not lie where the reply should.
        """
        block = self._reply
        start = -1 if block is None else place.offset - block.start
        if block is None or place.segment != block.segment.token or start < 0:
            raise tensors.TensorError("shared_memory", "it must lie in the reply's region")
        found = np.asarray(block)[start : start + size]
        found.flags.writeable = False
        return found

    def is_lost(self, error: LossdError) -> bool:
        """Returns whether the call failed because of shared memory, and may work without."""
        if not self.tells_of_loss(error):
            return False
        if not self._was_left_here(error):
            self._sharing.reset(self._until)
        self._is_cut = not error.reason  # a server may be left, and still write
        return True

    def _was_left_here(self, error: LossdError) -> bool:
        """Returns whether the server may miss a segment only since this client has left it.

        That says nothing about the server that others are shared with.
        """
        if error.reason != "SEGMENT_NOT_FOUND":
            return False
        is_left_on_device = self._device is not None and self._device.is_left()
        return is_left_on_device or any(map(self._sharing.is_left, self._segments))

    @staticmethod
    def tells_of_loss(error: LossdError) -> bool:
        """Returns whether an error says that shared memory was lost; waits for nothing."""
        return isinstance(error, UnavailableError) or error.reason.startswith("SEGMENT")

    def _take_reply(self, request: v1.ComputeLossRequest, wanted: set[str]) -> None:
        """Gives the server room for its reply, about as large as needed."""
        size = reply_size(request, wanted)
        if size < WORTHWHILE_BYTES:
            return
        reply = self._reply = self._sharing.block(size, self._until)
        if reply is not None:
            self._segments.add(reply.segment.token)
            request.reply.start.segment = reply.segment.token
            request.reply.start.offset = reply.start
            request.reply.size = reply.size
