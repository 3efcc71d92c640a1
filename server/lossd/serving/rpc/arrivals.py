"""Bounds what has come of messages that are not complete.

gRPC receives a message of any size that is allowed before anybody sees a byte of it, and does not
say how much it has.  So the memory of the process is looked at: what is taken beyond what is
counted is messages on their way.  Where that is too much, calls that wait for one are ended: those
whose message should be small and was not there at once, then those that have waited for long, then
those that came last, so that the others get done.  One that came in time is left, however large it
is.
"""

import math
import time
from collections.abc import Callable

from lossd.serving.rounds import Rounds
from lossd.serving.rpc.watchdog import Watchdog, Watchdogs

LOOK_SECONDS = 0.025
# How long a message may be on its way when there is no room: one that may be large, a chunk, and
# one of some bytes, as that of a health check.
_LARGE_SECONDS, _CHUNK_SECONDS, _BRIEF_SECONDS = 5.0, 0.25, 0.05
# Where a step keeps the interpreter's lock nothing is read, and what comes seems late after it.  So
# many such rounds in a row end nobody; if there are more, what comes may be what takes so long.
_PAUSED_ROUNDS = 3
# Once those of some bytes are ended, whose memory goes in a moment, nobody else is for so long: but
# not again and again, or whoever begins such calls all the time would shelter what is too large.
_REST_SECONDS = 1.0


class Arrivals:
    """Looks at the memory that nobody counted, on a thread of its own, while calls wait.

    ``beyond`` tells its bytes, which must be at most those that ``room`` tells.  ``watchdogs``
    watch the calls that wait, and ``brief`` those whose messages have some bytes.  ``ended`` is
    told how many were.
    """

    def __init__(
        self,
        beyond: Callable[[], int],
        room: Callable[[], int],
        watchdogs: Watchdogs,
        brief: Watchdog,
        *,
        ended: Callable[[int], object] = lambda _: None,
        every: float = LOOK_SECONDS,
    ) -> None:
        self._beyond = beyond
        self._room = room
        self._watchdogs = watchdogs
        self._brief = brief
        self._looked_at = (*watchdogs.of_silent, brief)
        self._rests_until: float | None = None  # of this shortage
        self._ended = ended
        self._every = every
        self._looked = -math.inf  # when
        self._paused = 0  # rounds in a row that came late
        self._rounds = Rounds(
            "lossd-arrivals", self._look_and_tell, every, is_idle=lambda: not self._waiting()
        )
        for each in self._looked_at:
            each.when_watching(self._rounds.wake)

    def close(self) -> None:
        """Looks no more."""
        self._rounds.close()

    def look(self) -> int:
        """Ends calls if too much is on its way; returns how many."""
        waiting = self._waiting()
        if not waiting:
            self._rests_until = None
            return 0
        beyond, room = self._beyond(), self._room()
        if beyond <= room:
            self._rests_until = None
            return 0
        brief, now = self._brief.end_late(waiting, _BRIEF_SECONDS), time.monotonic()
        if brief and self._rests_until is None:
            self._rests_until = now + _REST_SECONDS
        if self._rests_until is not None and now < self._rests_until:
            return brief
        # As if all had come equally far, so many are half of what may be.
        silent = sum(map(len, self._watchdogs.of_silent))
        return brief + self._end(math.ceil(silent * (1 - room / 2 / beyond)))

    def _waiting(self) -> int:
        return sum(map(len, self._looked_at))

    def _end(self, count: int) -> int:
        first = self._watchdogs.first_message
        found = self._watchdogs.chunk.end_late(count, _CHUNK_SECONDS)
        for each in (self._watchdogs.idle, self._watchdogs.between, first):
            found += each.end_late(count - found, _LARGE_SECONDS)
        found += first.end_newest(min(count - found, len(first) - 1))
        return found

    def _look_and_tell(self) -> None:
        found = 0 if self._was_paused() else self.look()
        if found:
            self._ended(found)

    def _was_paused(self) -> bool:
        """Returns whether this round came late, as few in a row did."""
        now = time.monotonic()
        is_late = now - self._looked > 2 * self._every
        self._looked = now
        self._paused = self._paused + 1 if is_late else 0
        return 0 < self._paused <= _PAUSED_ROUNDS
