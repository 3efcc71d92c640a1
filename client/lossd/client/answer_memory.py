"""Memory of large answers, which is used again when nobody has its arrays any more."""

import weakref
from collections import deque

import numpy as np

from lossd.chunks import Room
from lossd.client.freed_memory import keep_memory_of

# Less than this the allocator keeps by itself.
LEAST_BYTES = 1 << 20
# What waits for the next answer: enough for two large ones, of which a loop has one in its hands.
KEPT_BYTES = 256 << 20


class AnswerMemory:
    """Memory for the tensors of answers; may be used from many threads.

    In a training loop each answer is as large as the one before.  Fresh memory is cleared by the
    system page by page: for 64 MiB that took 4 ms of processor time, and as long again to give
    back.
    """

    def __init__(self) -> None:
        # The oldest first.  Memory comes back whenever it is collected, even within ``take``, so
        # that only a deque's own methods, which are atomic, touch it.
        self._waiting: deque[Room] = deque()
        self._most = KEPT_BYTES

    def take(self, size: int) -> Room:
        """Returns so many bytes, which nobody else has; they may hold anything."""
        if size < LEAST_BYTES:
            return np.empty(size, np.uint8)
        room = self._waiting_of(size)
        if room is None:
            keep_memory_of(size)  # of gRPC's own buffers, of which an answer takes hundreds
            room = np.empty(size, np.uint8)
        # Arrays over the bytes refer to this one and not to the room: it ends with the last.
        lent: Room = np.frombuffer(room.data, np.uint8)
        weakref.finalize(lent, self._take_back, room).atexit = False
        return lent

    @property
    def waiting_bytes(self) -> int:
        """The bytes that wait for an answer."""
        return sum(room.nbytes for room in self._waiting.copy())

    def close(self) -> None:
        """Keeps nothing any more."""
        self._most = 0
        self._waiting.clear()

    def _waiting_of(self, size: int) -> Room | None:
        """Returns a room of a size; it goes once around those that wait."""
        for _ in range(len(self._waiting)):
            room = _popped(self._waiting)
            if room is None or room.nbytes == size:
                return room
            self._waiting.append(room)
        return None

    def _take_back(self, room: Room) -> None:
        self._waiting.append(room)
        while self.waiting_bytes > self._most:
            _popped(self._waiting)


def _popped(waiting: deque[Room]) -> Room | None:
    """Returns what has waited longest; None where another thread was quicker."""
    try:
        return waiting.popleft()
    except IndexError:
        return None
