"""Lets a call in that found no room, where another one gives way to it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import grpc

from lossd.errors import Overloaded
from lossd.serving.rpc.admission import Admission, AdmissionTicket

TurnedAway = Callable[[str, grpc.ServicerContext], bool]

_REFUSING = 2  # threads that never serve
_SECONDS = 0.05


def refusing_threads(calls: int) -> int:
    """Returns how many threads refuse calls: each slot may be of one that another gave way to."""
    return calls + _REFUSING


class GivingWay:
    """Enters calls that came late; may be used from many threads.

    ``turned_away`` is told the method and the context of a call that found no room, and says
    whether another call gives way.
    """

    def __init__(self, admission: Admission, turned_away: TurnedAway) -> None:
        self._admission = admission
        self._turned_away = turned_away
        self._late = threading.BoundedSemaphore(admission.max_calls)

    @contextlib.contextmanager
    def entered(
        self, method: str, context: grpc.ServicerContext
    ) -> Iterator[AdmissionTicket | None]:
        """Lets a call in once another one has given way, which takes a moment; yields its ticket.

        As many are served so as there are slots; the other threads that refuse never serve.
        """
        if not context.is_active() or not self._late.acquire(blocking=False):
            yield None
            return
        try:
            yield self._entered_soon() if self._turned_away(method, context) else None
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
