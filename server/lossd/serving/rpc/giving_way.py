"""Lets a call in that found no room, where another one gives way to it."""

import contextlib
import enum
import threading
import time
from collections.abc import Callable, Iterator

import grpc

from lossd.errors import Overloaded
from lossd.serving.call import READING_SECONDS
from lossd.serving.rpc.admission import Admission, AdmissionTicket

_REFUSING = 2  # threads that never serve
_LEAVING_SECONDS = 0.05  # that a call has which gives way
_SOON_SECONDS = READING_SECONDS + 0.01  # by then the answers of before are read, or they are not
_LOOK_SECONDS = 0.005  # from one look at the others to the next
_STEP_SECONDS = 0.001  # from one look for room to the next


class Prospect(enum.Enum):
    """The hope of a call that found no room."""

    NONE = enum.auto()
    SOON = enum.auto()  # nobody gives way, but one who has much may in a moment
    LEFT = enum.auto()  # another one gave way


Ask = Callable[[], Prospect]
TurnedAway = Callable[[str, grpc.ServicerContext], Ask]


def refusing_threads(calls: int) -> int:
    """Returns how many threads refuse calls: each slot may be of one that another gave way to."""
    return calls + _REFUSING


class GivingWay:
    """Enters calls that came late; may be used from many threads.

    ``turned_away`` is told the method and the context of a call that found no room, and returns
    what says whether another call gives way, or may in a moment, for which the late one waits.
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

        At most as many late calls are served at a time as there are slots; the other threads that
        refuse never serve.
        """
        if not self._late.acquire(blocking=False):
            yield None
            return
        try:
            yield self._entered_soon(method, context)
        finally:
            self._late.release()

    def _entered_soon(self, method: str, context: grpc.ServicerContext) -> AdmissionTicket | None:
        if not context.is_active():
            return None
        until = time.monotonic() + _SOON_SECONDS
        ask = self._turned_away(method, context)
        while context.is_active() and time.monotonic() < until:
            prospect = ask()
            if prospect is Prospect.NONE:
                return None
            if prospect is Prospect.LEFT:
                return self._entered_within(_LEAVING_SECONDS)
            if ticket := self._entered_within(_LOOK_SECONDS):
                return ticket
        return None

    def _entered_within(self, seconds: float) -> AdmissionTicket | None:
        until = time.monotonic() + seconds
        is_over = False
        while True:
            try:
                return self._admission.enter()
            except Overloaded:
                if is_over:
                    return None
            time.sleep(_STEP_SECONDS)  # which takes long on a busy machine: then it looks once more
            is_over = time.monotonic() >= until
