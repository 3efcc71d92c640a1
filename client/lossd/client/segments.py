"""Files in memory, and blocks of them that are returned automatically.

Nothing here knows of servers.
"""

import contextlib
import fcntl
import math
import mmap
import os
import secrets
import threading
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.client.forks import keeper
from lossd.client.spaces import Space

Bytes = npt.NDArray[np.uint8]

ALIGNMENT = 64
_GRANULE = 1 << 20  # sizes of files are multiples of this


class Segment:
    """A file, mapped and locked for as long as this lives.

    The lock is a POSIX lock: it ends with this process even where a fork of it lives on. In the
    fork, blocks in use become private memory.

    Attributes:
        name: Its name in the directory, until the server removes it.
        token: Its identifier on the server; empty until it is attached.
        taken_at: When a block was last taken, on the monotonic clock.

    Raises:
        OSError: if the directory has no room or cannot be written to.
    """

    def __init__(self, directory: Path, size: int) -> None:
        kept = keeper()
        self._lock = kept.lock
        self.name = f"lossd-{secrets.token_hex(16)}"
        self.token = b""
        self.taken_at = time.monotonic()
        self.size = -(-size // _GRANULE) * _GRANULE
        self._path = directory / self.name
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        weakref.finalize(self, os.close, descriptor)  # not earlier: closing would unlock
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(descriptor, 0, self.size)  # a full directory is noticed here
            self._memory = mmap.mmap(descriptor, self.size)
        except OSError:
            self.unlink()
            raise
        self.address: int = np.frombuffer(self._memory, np.uint8).ctypes.data
        self._space = Space(self.size, ALIGNMENT)
        kept.keep(self)

    def unlink(self) -> None:
        """Removes the name, unless the server did."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def take(self, size: int) -> "Block | None":
        """Returns a block of so many bytes; None where none is free."""
        with self._lock:
            part = self._space.take(size)
            if part is None:
                return None
            self.taken_at = time.monotonic()
            return Block(self, *part)

    def is_free(self) -> bool:
        """Returns whether no block of it is in use."""
        return not self.taken()

    def taken(self) -> list[tuple[int, int]]:
        """Returns the parts that blocks use, as starts and ends."""
        with self._lock:
            return self._space.taken()


class Block:
    """A part of a segment; it is returned when the last array over it is collected.

    A view in NumPy holds the owner of its memory but no array in between, so that an array could
    not tell when the last view of it is gone.  Views do hold this object.
    """

    def __init__(self, segment: Segment, start: int, end: int) -> None:
        self.segment = segment
        self.start = start
        self.size = end - start
        weakref.finalize(self, segment._space.give_back, (start, end)).atexit = False  # noqa: SLF001 - they are one thing

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """The interface for NumPy."""
        data = (self.segment.address + self.start, False)
        return {"shape": (self.size,), "typestr": "|u1", "data": data, "version": 3}

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Returns an array at the start of the block."""
        count = int(np.prod(shape, dtype=object)) * dtype.itemsize
        return np.asarray(self)[:count].view(dtype).reshape(shape)


class Arena:
    """The segments of one client; may be used from many threads."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._retired: list[Segment] = []
        self._lock = threading.Lock()

    @property
    def is_empty(self) -> bool:
        """Whether there is no segment."""
        return not self._segments

    def take(self, size: int) -> Block | None:
        """Returns a block; None where no segment has room."""
        with self._lock:
            blocks = (segment.take(size) for segment in self._segments)
            return next((block for block in blocks if block is not None), None)

    def add(self, segment: Segment) -> None:
        """Adds a segment."""
        with self._lock:
            self._segments.append(segment)

    def retire(self, segment: Segment) -> None:
        """Takes no more blocks from a segment; blocks in use stay valid."""
        with self._lock:
            if segment in self._segments:
                self._segments = [other for other in self._segments if other is not segment]
                self._retired.append(segment)

    def remove_unused(self, since: float = math.inf) -> list[Segment]:
        """Removes and returns the segments that are unused, retired or not.

        Other calls may still have their inputs in one that is retired.

        Args:
            since: The time on the monotonic clock since when no block of them was taken.
        """
        with self._lock:
            unused = [
                each
                for each in (*self._segments, *self._retired)
                if each.taken_at <= since and each.is_free()
            ]
            self._segments = [segment for segment in self._segments if segment not in unused]
            self._retired = [segment for segment in self._retired if segment not in unused]
            return unused

    def remove_all(self) -> list[Segment]:
        """Removes and returns all segments; blocks in use stay valid."""
        with self._lock:
            removed = self._segments + self._retired
            self._segments, self._retired = [], []
            return removed

    def has(self, token: bytes) -> bool:
        """Returns whether a segment is neither retired nor removed."""
        return any(segment.token == token for segment in self._segments)

    def locate(self, array: npt.NDArray[Any]) -> tuple[Segment, int] | None:
        """Returns the segment that a contiguous array lies in, and its offset there."""
        start: int = array.__array_interface__["data"][0]
        for segment in self._segments:
            offset = start - segment.address
            if 0 <= offset <= segment.size - array.nbytes:
                return segment, offset
        return None
