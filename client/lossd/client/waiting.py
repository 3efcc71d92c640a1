"""Waits that never outlast the call that they are for.

Nothing here does any input or output.
"""

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from typing import Protocol

from lossd.client.errors import DeadlineExceededError

# The end of what nobody waits for.
NEVER = math.inf
# gRPC's clock, and that of an event loop, may end a call so much before this one.
_SOON = 0.01
# A server that was given so many seconds, and did not answer, is slow.
_FAIR = 0.25


class Lock(Protocol):
    """A lock of ``threading``, of whichever kind."""

    def acquire(self, blocking: bool = ..., timeout: float = ...) -> bool:  # noqa: FBT001 - its own
        """Takes it; returns whether it did in time."""
        ...

    def release(self) -> None:
        """Gives it back."""
        ...


def seconds(most: float, until: float) -> float:
    """Returns how long one step may take that may end no later than a time on the monotonic clock.

    Raises:
        DeadlineExceededError: if that is past.
    """
    left = until - time.monotonic()
    if left <= 0:
        raise DeadlineExceededError("memory must be set up within the call's timeout, got none")
    return min(most, left)


def was_hurried(begun: float, until: float) -> bool:
    """Returns whether something failed for want of time, of which its caller gave it next to none.

    That says nothing about who was asked.  Both times are on the monotonic clock.
    """
    now = time.monotonic()
    return until - now < _SOON and now - begun < _FAIR


@contextlib.contextmanager
def held(lock: Lock, until: float) -> Iterator[bool]:
    """Holds a lock; yields whether it could be had before a time on the monotonic clock."""
    left = min(max(until - time.monotonic(), 0.0), threading.TIMEOUT_MAX)
    is_held = lock.acquire(timeout=left)
    try:
        yield is_held
    finally:
        if is_held:
            lock.release()
