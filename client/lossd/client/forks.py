"""Protects shared memory in processes that inherit it through a fork.

A fork copies a process's memory, except for shared memory: parent and child would write into each
other's arrays.  So the child replaces inherited mappings by copies, before anything else runs in
it, and the parent waits for that.

It may import the standard library only.  A process that a library forks without Python is not
protected.
"""

import ctypes
import functools
import mmap
import os
import threading
import weakref
from collections.abc import Iterable
from typing import Protocol

_MREMAP_MAYMOVE, _MREMAP_FIXED = 1, 2


class Memory(Protocol):
    """A shared mapping.

    Attributes:
        address: Where it lies.
        size: How many bytes it has, a multiple of a page.
    """

    address: int
    size: int

    def taken(self) -> Iterable[tuple[int, int]]:
        """Returns the parts of it that are still in use, as starts and ends."""
        ...


class Keeper:
    """Protects memory in forks of this process for as long as it lives; ``keeper`` makes one.

    Attributes:
        lock: Held during a fork, and by anyone who takes a part of a memory, since the child might
            still be copying that part. A thread may take it twice, as the garbage collector does.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._kept: weakref.WeakSet[Memory] = weakref.WeakSet()
        self._remap = _remapping()
        self._pipe: tuple[int, int] | None = None
        os.register_at_fork(
            before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child
        )

    def keep(self, memory: Memory) -> None:
        """Protects a memory."""
        with self.lock:
            self._kept.add(memory)

    def _before(self) -> None:
        self.lock.acquire()
        if self._kept:
            self._pipe = os.pipe()

    def _in_parent(self) -> None:
        try:
            if self._pipe is not None:
                end, written = self._pipe
                os.close(written)
                os.read(end, 1)  # returns when the child has closed its own, or has died
                os.close(end)
        finally:
            self._pipe = None
            self.lock.release()

    def _in_child(self) -> None:
        try:
            for memory in self._kept:
                self._remap(memory)
        finally:
            self._kept.clear()  # private to this process now; forks copy them anyway
            for end in self._pipe or ():
                os.close(end)
            self._pipe = None
            self.lock.release()


@functools.cache
def keeper() -> Keeper:
    """Returns the keeper of this process, which is made when there is something to protect.

    Raises:
        OSError: if memory cannot be protected on this system, and so must not be shared.
    """
    try:
        return Keeper()
    except AttributeError as error:
        raise OSError("system must have mremap and os.register_at_fork, got one without") from error


def _remapping() -> "functools.partial[None]":
    libc = ctypes.CDLL(None, use_errno=True)
    size_t, pointer, number = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
    libc.mmap.restype = libc.mremap.restype = pointer
    libc.mmap.argtypes = (pointer, size_t, number, number, number, ctypes.c_long)
    libc.mremap.argtypes = (pointer, size_t, size_t, number, pointer)
    return functools.partial(_remap, libc)


def _remap(libc: ctypes.CDLL, memory: Memory) -> None:
    """Replaces a shared mapping by private memory with the same content."""
    access = mmap.PROT_READ | mmap.PROT_WRITE
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    copy = _checked(libc.mmap(None, memory.size, access, kind, -1, 0))
    for begin, end in memory.taken():
        ctypes.memmove(copy + begin, memory.address + begin, end - begin)
    flags = _MREMAP_MAYMOVE | _MREMAP_FIXED
    _checked(libc.mremap(copy, memory.size, memory.size, flags, memory.address))


def _checked(address: int | None) -> int:
    if address in (None, ctypes.c_void_p(-1).value):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(address or 0)
