"""Calls that wait for their turn, none of them longer than it may take."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable

from lossd.client.beginning import begin_thread
from lossd.client.errors import UnavailableError

Work = Callable[[], object]


class Line:
    """The work that waits for one of some threads; may be used from many threads.

    Where all of these are busy, one more looks after what runs out of time meanwhile.  No frame
    here keeps work that is begun: an error has the frames that it came through.

    Args:
        threads: How many take work out.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, tuple[float, Work]] = {}
        self._busy = 0
        self._is_watched = False

    def join(self, name: Hashable, until: float, work: Work) -> None:
        """Puts work in, which is done by a time on the monotonic clock, without a turn if need be.

        Only then it may be done by a thread that is none of those, so that it must not take long.
        """
        with self._changed:
            self._waiting[name] = until, work
            if self._is_watched:
                self._changed.notify()
            elif len(self._waiting) + self._busy > self._threads:
                with contextlib.suppress(UnavailableError):  # its turn comes all the same
                    begin_thread(threading.Thread(target=self._watch, daemon=True))
                    self._is_watched = True

    def leave(self, name: Hashable) -> None:
        """Takes work out that is not to be done."""
        with self._changed:
            self._waiting.pop(name, None)

    def take_turn(self) -> None:
        """Does the work that has waited longest, if there is any."""
        with self._changed:
            if not self._waiting:
                return
            self._busy += 1
        try:
            self._first()()
        finally:
            with self._changed:
                self._busy -= 1

    def _first(self) -> Work:
        with self._changed:
            first = next(iter(self._waiting), None)
            return _nothing if first is None else self._waiting.pop(first)[1]

    def _watch(self) -> None:
        while late := self._late():
            while late:
                late.popleft()()

    def _late(self) -> deque[Work]:
        """Waits until some have no time left, and takes them out; none where nothing waits."""
        with self._changed:
            while self._waiting:
                now = time.monotonic()
                late = [name for name, (until, _) in self._waiting.items() if until <= now]
                if late:
                    return deque(self._waiting.pop(name)[1] for name in late)
                first = min(until for until, _ in self._waiting.values())
                self._changed.wait(min(first - now, threading.TIMEOUT_MAX))
            self._is_watched = False
            return deque()


def _nothing() -> None:
    """Does nothing: what waited was taken out meanwhile."""
