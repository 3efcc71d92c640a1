"""Lets a call in that found no room, where another one gives way to it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import grpc

from lossd.errors import Overloaded
from lossd.serving.rpc.admission import Admission, AdmissionTicket

# Threads that refuse calls, and how many of them may serve those for which others gave way.
REFUSING_THREADS, _LATE = 8, 6
_SECONDS = 0.05


class GivingWay:
    """Enters calls that came late; may be used from many threads.

    ``turned_away`` is told the connection of a call that found no room, and says whether another
    call gives way.
    """

    def __init__(self, admission: Admission, turned_away: Callable[[str], bool]) -> None:
        self._admission = admission
        self._turned_away = turned_away
        self._late = threading.BoundedSemaphore(_LATE)

    @contextlib.contextmanager
    def entered(self, context: grpc.ServicerContext) -> Iterator[AdmissionTicket | None]:
        """Lets a call in once another one has given way, which takes a moment; yields its ticket.

        Of the threads that refuse some are left for that: few calls are served by them at a time.
        """
        if not context.is_active() or not self._late.acquire(blocking=False):
            yield None
            return
        try:
            yield self._entered_soon() if self._turned_away(context.peer()) else None
        finally:
            self._late.release()

    def _entered_soon(self) -> AdmissionTicket | None:
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            try:
                return self._admission.enter()
            except Overloaded:
                time.sleep(_SECONDS / 50)
        return None
