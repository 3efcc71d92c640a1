"""Survives files that are shrunk while they are mapped.

Reading mapped memory beyond the end of its file raises SIGBUS, which ends a process.  A client
that shares a file with the server could do that at any time, on purpose or not.  Here the handler
replaces the mapping by private memory of zeros and marks it, so that the call goes on with zeros,
the damage is found at its end, and only that call fails.

Why not ``pread``, which has no such problem: it reads tmpfs page by page.  64 MiB took 15 ms, but 4
ms when mapped; for a whole call that is more than the computing.

Why this may be done in a handler of a signal: SIGBUS comes from the very instruction that touched
the memory, in NumPy's loops, which hold no lock that the handler takes.  Python runs it as it runs
any function that is called from C, and waits for the interpreter where the loop had let it go.
"""

import ctypes
import mmap
import signal
import sys
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from lossd.errors import ServiceError

Bytes = npt.NDArray[np.uint8]

_SA_SIGINFO = 4  # from signal.h, as are the structures
_MAP_FIXED, _MAP_NORESERVE = 0x10, 0x4000  # from mman.h
_MAP_FAILED = ctypes.c_void_p(-1).value
_DEFAULT_HANDLER = 0


class _SignalInfo(ctypes.Structure):
    """``siginfo_t`` of a fault, on 64-bit Linux."""

    _fields_ = (
        ("number", ctypes.c_int),
        ("error", ctypes.c_int),
        ("code", ctypes.c_int),
        ("padding", ctypes.c_int),
        ("address", ctypes.c_size_t),
    )


class _Action(ctypes.Structure):
    """``struct sigaction`` of glibc and musl."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.POINTER(_SignalInfo), ctypes.c_void_p)


class UnsupportedError(ServiceError):
    """This machine has no supported kind of signals."""

    reason = "UNSUPPORTED"


class Mapping:
    """A file in memory, shared with other processes; it stays mapped while arrays over it live.

    ``is_broken`` says that the file became shorter than the mapping; zeros have replaced it.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._memory = mmap.mmap(descriptor, size)
        self.address: int = np.frombuffer(self._memory, np.uint8).ctypes.data
        self.size = size
        self.is_broken = False

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """The interface for NumPy; the array then holds the mapping."""
        data = (self.address, False)
        return {"shape": (self.size,), "typestr": "|u1", "data": data, "version": 3}

    @property
    def bytes(self) -> Bytes:
        """All of it."""
        return np.asarray(self)


class TruncationGuard:
    """Guards mappings against SIGBUS.  The signal is the process's: one guard at a time.

    Raises:
        UnsupportedError: on anything but 64-bit Linux.
    """

    def __init__(self) -> None:
        if sys.platform != "linux" or ctypes.sizeof(ctypes.c_void_p) != 8:
            raise UnsupportedError("platform must be 64-bit Linux to share memory")
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._libc.mmap.restype = ctypes.c_void_p
        self._libc.mmap.argtypes = (
            ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
            ctypes.c_long,
        )  # fmt: skip
        self._guarded: dict[int, weakref.ref[Mapping]] = {}
        self._handler = _Handler(self._on_fault)  # must live as long as it may be called
        self._before = _Action()
        action = _Action(ctypes.cast(self._handler, ctypes.c_void_p), flags=_SA_SIGINFO)
        self._set(action, self._before)

    def map(self, descriptor: int, size: int) -> Mapping:
        """Maps a file and guards it until it is unmapped.

        Raises:
            OSError: if it cannot be mapped.
        """
        mapping = Mapping(descriptor, size)
        self._guarded[mapping.address] = weakref.ref(mapping)
        weakref.finalize(mapping, self._guarded.pop, mapping.address).atexit = False
        return mapping

    def close(self) -> None:
        """Restores the handler from before."""
        self._set(self._before, None)

    def _set(self, action: _Action, before: _Action | None) -> None:
        keep = None if before is None else ctypes.byref(before)
        if self._libc.sigaction(int(signal.SIGBUS), ctypes.byref(action), keep):
            raise UnsupportedError("platform must let SIGBUS be handled to share memory")

    def _on_fault(self, number: int, info: Any, context: Any) -> None:
        """Lets the instruction repeat, now with memory, or ends the process as usual."""
        del number, context
        is_mended = False
        try:
            mapping = self._at(info.contents.address)
            is_mended = mapping is not None and self._replace(mapping)
        finally:
            if not is_mended:
                self._set(_Action(_DEFAULT_HANDLER), None)

    def _at(self, address: int) -> Mapping | None:
        for start, reference in list(self._guarded.items()):
            mapping = reference()
            if mapping is not None and start <= address < start + mapping.size:
                return mapping
        return None

    def _replace(self, mapping: Mapping) -> bool:
        mapping.is_broken = True
        found = self._libc.mmap(
            mapping.address, mapping.size, mmap.PROT_READ | mmap.PROT_WRITE,
            mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE | _MAP_FIXED, -1, 0,
        )  # fmt: skip
        return bool(found != _MAP_FAILED)
