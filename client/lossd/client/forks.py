"""Protects shared memory in processes that inherit it through a fork, and gRPC in forks.

A fork copies a process's memory, except for shared memory: parent and child would write into each
other's arrays.  So the child replaces inherited mappings by copies, before anything else runs in
it, and the parent waits for that.

gRPC makes its threads anew in a child, out of a state that its other threads may have been
changing: of forks amid calls one in ten crashes or hangs.  So forks and calls take turns.

A process that a library forks without Python is not protected.
"""

import contextlib
import ctypes
import functools
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Protocol

# Seconds that a fork waits for calls under way. One of them might itself wait for the fork.
PATIENCE = 10.0

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


class Turns:
    """Has forks of this process and calls of gRPC wait for each other; ``turns`` makes one.

    It is entered for a call.  Any number of calls may be under way, and none begins while a fork
    waits for them.

    Attributes:
        parted: Why this process can call nobody: what its parent had open; empty if it can.
    """

    def __init__(self) -> None:
        self._open: list[str] = []
        self.parted = ""
        self._begin()
        os.register_at_fork(
            before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child
        )

    @contextlib.contextmanager
    def parting(self, what: str) -> Iterator[None]:
        """Has forks not call while something is open that keeps threads in gRPC.

        gRPC makes none anew in a fork then, and a call might crash, or wait forever.
        """
        with self._lock:
            self._open.append(what)
        try:
            yield
        finally:
            if not sys.is_finalizing():  # the lock may be that of a thread which was ended
                with self._lock:
                    self._open.remove(what)

    def _begin(self) -> None:
        """Begins with no calls, as a child has none of its parent's."""
        self._lock = threading.RLock()  # a signal's handler may fork amid any of this
        self._changed = threading.Condition(self._lock)
        self._calls = 0
        self._forks = 0

    def __enter__(self) -> None:
        with self._lock:
            while self._forks:
                self._changed.wait()
            self._calls += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._calls -= 1
            if self._forks:
                self._changed.notify_all()

    def _before(self) -> None:
        with self._lock:
            self._forks += 1
            # Below 0 in a child that was forked within a call, which ends there too.
            self._changed.wait_for(lambda: self._calls <= 0, PATIENCE)

    def _in_child(self) -> None:
        self.parted = self.parted or next(iter(self._open), "")
        self._begin()

    def _in_parent(self) -> None:
        with self._lock:
            self._forks -= 1
            self._changed.notify_all()


@functools.cache
def turns() -> Turns:
    """Returns the turns of this process, which are made with its first connection."""
    with contextlib.suppress(OSError):
        keeper()  # what is registered first is done last: nobody waits for calls with its lock
    return Turns()


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
