"""The shared memory that one call uses: its tensors, and a region for its reply.

Its client can change the bytes at any time.  Floating-point inputs of losses that are computed row
by row, and those of tokens, are used where they lie: a changed number changes only the caller's own
result, and is never used as an index.  Everything else is copied before it is checked.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd import v1
from lossd.errors import InvalidRequest, InvalidTensor, SegmentNotFound
from lossd.serving.call import GRPC, SHARED_MEMORY
from lossd.serving.shared_memory_service.segments import AttachedSegment, SharedMemory
from lossd.serving.shared_memory_service.sigbus import Bytes

Array = npt.NDArray[Any]

ALIGNMENT = 64  # bytes of a cache line and of the widest vector register


class Lease:
    """The shared memory of one call; without ``shared`` the server has none for its caller.

    ``hold`` counts private memory that the call takes besides, and may refuse it.  ``is_taken`` is
    whether the method takes tensors of shared memory at all.
    """

    def __init__(
        self,
        shared: SharedMemory | None,
        hold: Callable[[int], None],
        *,
        is_taken: bool = True,
    ) -> None:
        self._shared = shared
        self._hold = hold
        self._is_taken = is_taken
        self._segments: list[AttachedSegment] = []
        self._token = b""
        self._region: Bytes = np.empty(0, np.uint8)
        self._offset = 0  # offset of the region in its segment
        self._used = 0
        self.request_bytes = 0
        self.reply_bytes = 0

    @property
    def is_used(self) -> bool:
        """Whether the call has any."""
        return bool(self._segments)

    @property
    def transport(self) -> str:
        """How the tensors of the call travelled."""
        return SHARED_MEMORY if self._segments else GRPC

    def view(self, position: v1.SharedMemory, size: int, field: str) -> Bytes:
        """Returns the bytes of a tensor where they lie, read-only.

        Raises:
            SegmentNotFound: if there is no such segment.
            InvalidTensor: if they do not lie in it.
        """
        found = self._part(position, size, field)
        found.flags.writeable = False
        self.request_bytes += size
        return found

    def copy(self, position: v1.SharedMemory, size: int, field: str) -> Bytes:
        """Returns a private copy of the bytes of a tensor.

        Raises:
            SegmentNotFound: if there is no such segment.
            InvalidTensor: if they do not lie in it.
            Overloaded: if the copy does not fit beside the requests in flight.
        """
        found = self.view(position, size, field)
        self._hold(size)
        return found.copy()

    def take_region(self, region: v1.SharedMemoryRegion) -> None:
        """Takes the region of a request for the reply.

        Raises:
            SegmentNotFound: if there is no such segment.
            InvalidTensor: if it does not lie in it.
        """
        self._region = self._part(region.start, region.size, "reply")
        self._token, self._offset = region.start.segment, region.start.offset

    def allocate(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Returns an array in the region, or in private memory where it does not fit.

        Raises:
            Overloaded: if it fits nowhere.
        """
        size = np.dtype(dtype).itemsize * math.prod(shape)
        start = self._used + -(self._offset + self._used) % ALIGNMENT
        if not size or start + size > len(self._region):
            self._hold(size)
            return np.empty(shape, dtype)
        self._used = start + size
        self.reply_bytes += size
        return self._region[start : self._used].view(dtype).reshape(shape)

    def position_of(self, array: Array) -> v1.SharedMemory | None:
        """Returns where in the region an array lies; None if it lies elsewhere."""
        if not len(self._region):
            return None
        offset = array.ctypes.data - self._region.ctypes.data
        if not 0 <= offset < len(self._region):
            return None
        return v1.SharedMemory(segment=self._token, offset=self._offset + offset)

    def check(self) -> None:
        """Checks that no file was shrunk meanwhile.

        Raises:
            InvalidRequest: if one was; the results were then computed from zeros.
        """
        if any(segment.mapping.is_broken for segment in self._segments):
            raise InvalidRequest(
                "segment must keep its size, got a file that was shrunk", reason="SEGMENT_SHRUNK"
            )

    def _part(self, position: v1.SharedMemory, size: int, field: str) -> Bytes:
        if not self._is_taken:
            raise InvalidTensor(
                f"{field} must be data, or chunks in StreamLoss, got shared_memory", field=field
            )
        if self._shared is None:
            raise SegmentNotFound(
                "segment must be attached, got one of a server that has none", field=field
            )
        segment = self._shared.find(position.segment, field)
        end = position.offset + size
        if end > segment.size:
            raise InvalidTensor(
                f"{field} must end within its segment of {segment.size} bytes, got {end}",
                field=field,
                reason="SEGMENT_EXCEEDED",
            )
        self._segments.append(segment)
        return segment.mapping.bytes[position.offset : end]
