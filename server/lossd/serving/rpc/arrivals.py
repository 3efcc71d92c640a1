"""Bounds what has come of messages that are not complete.

gRPC receives a message of any size that is allowed before anybody sees a byte of it, and does not
say how much it has.  So the memory of the process is looked at: what is taken beyond what is
counted is messages on their way.  Where that is too much, calls that wait for one are ended: those
that have waited for long, then those that came last, so that the others get done.  One that came in
time is left, however large it is.
"""

import math
from collections.abc import Callable

from lossd.serving.rounds import Rounds
from lossd.serving.rpc.watchdog import Watchdog

LOOK_SECONDS = 0.025
# How long a message may be on its way when there is no room: the first of a call, which may be
# large, and one of a stream, which should be a chunk.
_FIRST_SECONDS, _LATER_SECONDS = 5.0, 0.25


class Arrivals:
    """Looks at the memory that nobody counted, on a thread of its own, while calls wait.

    ``beyond`` tells its bytes, which must be at most those that ``room`` tells.  ``first`` and
    ``later`` watch the calls that wait for their first message, and for another one of a stream.
    ``ended`` is told how many were.
    """

    def __init__(
        self,
        beyond: Callable[[], int],
        room: Callable[[], int],
        *,
        first: Watchdog,
        later: Watchdog,
        ended: Callable[[int], object] = lambda _: None,
        every: float = LOOK_SECONDS,
    ) -> None:
        self._beyond = beyond
        self._room = room
        self._first = first
        self._later = later
        self._ended = ended
        self._rounds = Rounds("lossd-arrivals", self._look_and_tell, every)

    def close(self) -> None:
        """Looks no more."""
        self._rounds.close()

    def look(self) -> int:
        """Ends calls if too much is on its way; returns how many."""
        waiting = len(self._first) + len(self._later)
        if not waiting:
            return 0
        beyond, room = self._beyond(), self._room()
        if beyond <= room:
            return 0
        # As if all had come equally far, so many are half of what may be.
        count = math.ceil(waiting * (1 - room / 2 / beyond))
        found = self._later.end_late(count, _LATER_SECONDS)
        found += self._first.end_late(count - found, _FIRST_SECONDS)
        found += self._first.end_newest(min(count - found, len(self._first) - 1))
        return found

    def _look_and_tell(self) -> None:
        found = self.look()
        if found:
            self._ended(found)
