"""The C library's allocator: a setting, made once for the process, and what it has given out."""

import ctypes
import mmap
import sys
import time
from collections.abc import Callable
from typing import Protocol

from lossd.serving.rounds import Rounds

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_KEPT_BYTES = 1 << 30
# A burst is what is so large, and over when an eighth is left for so many seconds.
_BURST_BYTES, _LEFT = 64 << 20, 8
_LOOK_SECONDS = 2.0
_GLANCE_SECONDS = 0.025


def keep_freed_memory() -> bool:
    """Makes the allocator keep freed memory for the next batch; returns whether it could.

    Why: glibc gives freed memory above its thresholds back to the kernel, which clears each page
    again at the next use.  Measured on 16 Mi elements, processor time of a call with and without:
    binary cross-entropy 110 and 410 ms (130,000 page faults), Huber 25 and 120 ms.  ``Relief``
    gives it back when a burst is over.

    Only the first arena keeps more than 64 MiB, and threads have others: 64 MiB written once took
    6.2 ms in a thread and 0.13 ms with one arena for all.  Large arrays are few, so that no thread
    waits for its lock.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has no mallopt
    if mallopt is None:
        return False
    settings = {_M_MMAP_THRESHOLD: _KEPT_BYTES, _M_TRIM_THRESHOLD: _KEPT_BYTES, _M_ARENA_MAX: 1}
    taken = [mallopt(name, value) for name, value in settings.items()]
    return all(taken)


class InFlight(Protocol):
    """A count of bytes."""

    @property
    def request_bytes(self) -> int:
        """Bytes in flight."""

    def take_most(self) -> int:
        """Returns the most since the last call."""


class Relief:
    """Gives freed memory back to the system, on a thread of its own.

    While there is much to do it is kept, for the sake of the next batch, and goes when a burst is
    over.  But if the process has grown by more than ``ceiling``, it goes at once: what is freed
    here and there is no room for what is large.  While ``is_idle`` it looks seldom, until woken.
    """

    def __init__(
        self,
        admission: InFlight,
        ceiling: int,
        *,
        every: float = _LOOK_SECONDS,
        glance: float = _GLANCE_SECONDS,
        is_idle: Callable[[], bool] = lambda: False,
    ) -> None:
        self._admission = admission
        self._ceiling = ceiling
        self._every = every
        self._kept = kept_bytes()
        self._idle = resident_bytes()
        self._grown_left = self._kept_left = 0  # what was left of them when it was given back
        self._burst, self._settled = 0, self._kept()
        self._looked = time.monotonic()
        self._rounds = Rounds(
            "lossd-relief", self._look, min(glance, every), is_idle=is_idle, resting=every
        )

    def close(self) -> None:
        """Looks no more."""
        self._rounds.close()

    def wake(self) -> None:
        """Tells that it is not idle any more."""
        self._rounds.wake()

    def _look(self) -> None:
        self._stay_below()
        if time.monotonic() - self._looked < self._every:
            return
        self._looked = time.monotonic()
        most = self._admission.take_most()
        # Messages that were never complete were counted by nobody.
        self._burst = max(self._burst, most, self._kept() - self._settled)
        if self._burst >= _BURST_BYTES and most <= self._burst // _LEFT:
            give_back_freed_memory()
            self._burst, self._settled = 0, self._kept()

    def _stay_below(self) -> None:
        """Gives freed memory back if that frees much; some of it the allocator keeps anyway."""
        grown = resident_bytes() - self._idle
        self._grown_left = min(self._grown_left, grown)
        if grown <= self._ceiling:
            return
        worth = self._ceiling // _LEFT
        if grown > self._grown_left + worth or self._kept() > self._kept_left + worth:
            give_back_freed_memory()
            self._grown_left, self._kept_left = resident_bytes() - self._idle, self._kept()


def give_back_freed_memory() -> bool:
    """Gives it back; tells whether there was some."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return trim is not None and bool(trim(0))


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    ]  # fmt: skip


def resident_bytes() -> int:
    """Returns the memory of the process that no other shares; 0 where nobody knows."""
    try:
        with open("/proc/self/statm", "rb", 0) as told:  # noqa: PTH123 - a third of the time
            _, resident, shared, *_ = told.read().split()
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * mmap.PAGESIZE


def allocated_bytes() -> Callable[[], int]:
    """Returns a function that tells the bytes that are given out now, without what was freed.

    The allocator walks all that is free to tell it.  Where it cannot tell, as in musl, all that the
    process has counts.
    """
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if mallinfo is None:
        return resident_bytes
    mallinfo.restype = _Mallinfo

    def told() -> int:
        found = mallinfo()
        return int(found.uordblks + found.hblkhd)

    return told


def kept_bytes() -> Callable[[], int]:
    """Returns a function that tells the bytes that the process has and that are not given out."""
    allocated = allocated_bytes()
    return lambda: resident_bytes() - allocated()


def beyond(counted: Callable[[], int], worth: int) -> Callable[[], int]:
    """Returns a function that tells the bytes that are given out beyond those of now and counted.

    It tells 0 while the process has grown by less than ``worth``, which takes no time to see.
    """
    allocated = allocated_bytes()
    settled, had = resident_bytes(), allocated()

    def told() -> int:
        if resident_bytes() - settled < worth:
            return 0
        return allocated() - had - counted()

    return told
