"""The device memory that one call uses: its tensors, and a region for its gradients.

Its client can change the numbers at any time.  Floating-point inputs of losses that are computed
row by row, where nothing but the kernel looks at their numbers, are used where they lie: a changed
number changes only the caller's own result.  Everything else, labels above all, is copied to the
host before it is checked.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd import v1
from lossd.backends import ALIGNMENT, Array, Exported, Resident
from lossd.engine import Result
from lossd.errors import InvalidRequest, InvalidTensor, SegmentNotFound
from lossd.serving.device_memory_service.memory import DeviceMemory

Inputs = Mapping[str, Sequence[Array]]


class DeviceLease:
    """The device memory of one call; without ``memory`` the server has none for its caller.

    ``use`` is what the request says of it, and ``caller`` the name of who calls.  ``checkpoint``
    may raise to end a wait for the client, and ``hold`` counts memory of the host.  ``is_taken`` is
    whether the method takes tensors of device memory at all.
    """

    def __init__(
        self,
        memory: DeviceMemory | None,
        use: v1.DeviceUse,
        *,
        caller: str,
        checkpoint: Callable[[], None],
        hold: Callable[[int], None],
        is_taken: bool = True,
    ) -> None:
        self._memory = memory
        self._is_taken = is_taken
        self._use = use
        self._caller = caller
        self._checkpoint = checkpoint
        self._hold = hold
        self._segments: dict[bytes, Exported] = {}
        self._region: Array | None = None
        self._used = 0
        self.request_bytes = 0
        self.reply_bytes = 0

    @property
    def is_used(self) -> bool:
        """Whether a tensor of the call was in device memory."""
        return bool(self._segments)

    def view(self, position: v1.DeviceMemory, size: int, field: str) -> Array:
        """Returns the bytes of a tensor where they lie, which only the device can read.

        Raises:
            SegmentNotFound: if the caller has no such memory.
            InvalidTensor: if they do not lie in it.
        """
        found = self._part(position, size, field)
        self.request_bytes += size
        return found

    def copy(self, position: v1.DeviceMemory, size: int, field: str) -> Array:
        """Returns a copy of the bytes of a tensor on the host; raises as ``view``.

        Raises:
            Overloaded: if the copy does not fit beside the requests in flight.
        """
        found = self.view(position, size, field)
        self._hold(size)
        return self._fetched(found)

    def settled(self, inputs: Inputs, stays: Collection[str]) -> Inputs:
        """Returns inputs that are on the host, except for those that may stay."""
        return {
            name: arrays if name in stays else [self._brought(array) for array in arrays]
            for name, arrays in inputs.items()
        }

    def take_region(self) -> None:
        """Takes the region of the request for gradients.

        Raises:
            SegmentNotFound: if there is no such memory.
            InvalidTensor: if it does not lie in it.
        """
        if self._use.HasField("reply"):
            self._region = self._part(self._use.reply, self._use.reply_size, "device.reply")

    def in_region(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array | None:
        """Returns an array in the region; None where it does not fit."""
        size = np.dtype(dtype).itemsize * math.prod(shape)
        start = self._used + -(self._use.reply.offset + self._used) % ALIGNMENT
        if self._region is None or not size or start + size > len(self._region):
            return None
        self._used = start + size
        self.reply_bytes += size
        return self._region[start : self._used].view(dtype).reshape(shape)

    def answered(self, result: Result, inputs: Collection[str]) -> Result:
        """Returns a result whose gradients with respect to these inputs are in the region.

        Those that do not fit there stay where they are.
        """
        moved = {n: self._moved(g) for n, g in result.gradients.items() if n in inputs}
        result.gradients = {**result.gradients, **moved}
        if self._memory is not None and self._region is not None:
            exported = self._segments[self._use.reply.segment]
            self._memory.exports.signal(exported)
        return result

    def position_of(self, array: Array) -> v1.DeviceMemory | None:
        """Returns where in the region an array lies; None if it lies elsewhere."""
        if self._region is None or not isinstance(array, Resident):
            return None
        offset = array.__array_interface__["data"][0] - self._region.__array_interface__["data"][0]
        start = self._use.reply
        return v1.DeviceMemory(segment=start.segment, offset=start.offset + offset)

    def norm(self, array: Array) -> float:
        """Returns the Euclidean norm of an array of the result."""
        return 0.0 if self._memory is None else self._memory.exports.norm(array)

    def _moved(self, gradient: Any) -> Any:
        if isinstance(gradient, list):
            return [self._moved(array) for array in gradient]
        if self._memory is None or isinstance(gradient, Resident):
            return gradient
        array = self.in_region(gradient.shape, gradient.dtype)
        if array is None:
            return gradient
        self._memory.exports.put(gradient, array)
        return array

    def _brought(self, array: Array) -> Array:
        if isinstance(array, Resident):
            self._hold(array.nbytes)
        return self._fetched(array)

    def _fetched(self, array: Array) -> Array:
        return array if self._memory is None else self._memory.exports.fetch(array)

    def _part(self, position: v1.DeviceMemory, size: int, field: str) -> Array:
        if not self._is_taken:
            raise InvalidTensor(
                f"{field} must be data, or chunks in StreamLoss, got device_memory", field=field
            )
        if self._memory is None:
            raise SegmentNotFound(
                "device memory must be shared, got some of a server without", field=field
            )
        exported = self._memory.find(position.segment, self._caller, field).exported
        end = position.offset + size
        if end > exported.size:
            raise InvalidTensor(
                f"{field} must end within its device memory of {exported.size} bytes, got {end}",
                field=field,
                reason="SEGMENT_EXCEEDED",
            )
        devices = {one.device for one in self._segments.values()} | {exported.device}
        if len(devices) > 1:
            raise InvalidRequest(
                f"device memory of a call must be on one device, got {len(devices)}", field=field
            )
        if not self._segments and self._use.ready_event:
            self._memory.exports.wait(self._use.ready_event, exported, self._checkpoint)
        self._segments[position.segment] = exported
        return exported.array()[position.offset : end]


NO_DEVICE = DeviceLease(
    None,
    v1.DeviceUse(),
    caller="",
    checkpoint=lambda: None,
    hold=lambda _: None,
    is_taken=False,
)
